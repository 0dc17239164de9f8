"""PyTorch, ONNX Runtime or an engine on the same images, one held against another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from farm import specs
from farm.catalog import RUNTIMES
from farm.detections import Floats
from farm.errors import (
    FarmError,
    InputError,
    LabelOutOfRange,
    StepFailed,
    WrongOutputs,
    in_one_line,
)
from farm.single import words
from farm.single.compare import Answers, held
from farm.single.sample import Sample, sample
from farm.stages.inference import completed, decoded, decoding_of, network_batch
from farm.units import Dims

log = logging.getLogger(__name__)

Run = Callable[[Floats], Answers]
"""Runs a batch of images [N, 3, H, W]."""


def pytorch_run(detector: Any, raw: bool) -> Run:
    """mmdet's own test path, told only what an exported graph can know."""

    def run(images: Floats) -> Answers:
        if raw:
            return Answers("PyTorch", None, detector.raw(images))
        return Answers("PyTorch", [detector.reference_as_graph(one) for one in images], {})

    return run


def engine_run(
    name: str, folder: Path, options: specs.EngineOptions, facts: specs.ModelFacts
) -> Run:
    """folder: what the runtime opens. Its own errors become StepFailed."""
    decoding = decoding_of(facts)

    def run(images: Floats) -> Answers:
        with telling(name):
            session = RUNTIMES[options.runtime].open_engine(folder, options, words.threads())
            outputs = completed(session.run(images), decoding)
            session.close()
        if "dets" not in outputs:
            return Answers(name, None, outputs)
        _, metas = network_batch(images)
        with explaining(name):
            return Answers(name, list(decoded(outputs, metas, decoding)), outputs)

    return run


def verified(
    reference: Run,
    engine: Run,
    sizes: Iterable[Dims],
    image: Path | None,
    facts: specs.ModelFacts,
    drawn: tuple[str, str] | None,
) -> bool:
    """Whether both give the same at all sizes; a batch is the image and its mirror image, in turn.

    drawn: show both results of the first size, or write them under these names.
    """
    good = True
    for number, size in enumerate(sizes):
        one = sample(image, facts, replace(size, n=1))
        mirrored = one.network[:, :, ::-1]
        images = np.stack([mirrored if i % 2 else one.network for i in range(size.n)])
        both = reference(images), engine(images)
        good = held(*both, str(size)) and good
        if drawn and number == 0:
            _draw(one, both, facts, drawn)
    return good


def _draw(
    one: Sample,
    both: tuple[Answers, Answers],
    facts: specs.ModelFacts,
    names: tuple[str, str],
) -> None:
    from farm.single.drawing import show_or_write

    if not facts.labels_from:
        log.info(
            f"The names drawn are in the config's order. Its labels' is not known: mmdet takes it"
            f" from the training annotation file, and {facts.labels_doubt}"
        )
    for side, name in zip(both, names, strict=True):
        if side.found is not None:  # raw outputs are nothing to look at
            show_or_write(one.picture, side.found[0], facts.classes, side.name, name)


@contextmanager
def telling(name: str) -> Iterator[None]:
    """A runtime's own errors, of any kind, as one line that says whose they are."""
    try:
        yield
    except (FarmError, MemoryError, OSError):
        raise
    except Exception as error:  # each runtime raises kinds of its own
        raise StepFailed(f"{name} cannot run it: {in_one_line(error)}") from error


@contextmanager
def explaining(where: str) -> Iterator[None]:
    """Turn outputs that do not fit into the user's error: any file can be given, or any config.

    where: whose outputs they are. Raises InputError.
    """
    try:
        yield
    except LabelOutOfRange as error:
        raise InputError(
            f"it finds class {error.label}, and the config has {error.classes} classes, from 0 on"
            f" ({error.image}); give the config that it was exported with",
            where,
        ) from None
    except WrongOutputs as error:
        raise InputError(str(error), where) from None
