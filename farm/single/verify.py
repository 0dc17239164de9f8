"""Run PyTorch, ONNX Runtime or an engine on the same images, and compare one with another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from farm.catalog import RUNTIMES
from farm.detections import Floats
from farm.errors import FarmError, InputError, LabelOutOfRange, StepFailed, WrongOutputs
from farm.failures import in_one_line
from farm.single import inputs
from farm.single.compare import Answers, Sample, prepare_sample, print_comparison
from farm.stages.inference import completed, decoded, decoding_of, network_batch

if TYPE_CHECKING:
    from farm import specs
    from farm.specs import Dims

log = logging.getLogger(__name__)

Run = Callable[[Floats], Answers]
"""Runs a batch of images [N, 3, H, W]."""


def pytorch_run(detector: Any, raw: bool) -> Run:
    """Return mmdet's own test path, which gets only what an exported graph can know.

    raw: it returns the outputs of the heads instead of detections.
    """

    def run(images: Floats) -> Answers:
        if raw:
            return Answers("PyTorch", None, detector.raw(images))
        return Answers("PyTorch", [detector.reference_as_graph(one) for one in images], {})

    return run


def engine_run(
    name: str, folder: Path, options: specs.EngineOptions, facts: specs.ModelFacts
) -> Run:
    """Return the run of an engine. folder: what the runtime opens.

    It raises StepFailed for the runtime's own errors, and InputError for outputs that do not fit.
    """
    decoding = decoding_of(facts)

    def run(images: Floats) -> Answers:
        with as_step_failed(name):
            session = RUNTIMES[options.runtime].open_engine(folder, options, inputs.threads())
            outputs = completed(session.run(images), decoding)
            session.close()
        if "dets" not in outputs:
            return Answers(name, None, outputs)
        _, metas = network_batch(images)
        with as_input_error(name):
            return Answers(name, list(decoded(outputs, metas, decoding)), outputs)

    return run


def verify(
    reference: Run,
    engine: Run,
    sizes: Iterable[Dims],
    image: Path | None,
    facts: specs.ModelFacts,
    drawn: tuple[str, str] | None,
) -> bool:
    """Return whether both agree at all sizes; print how far. Images alternate with mirror images.

    drawn: show both results of the first size, or write them to files of these names.

    Raises:
        InputError, StepFailed: as the two runs.
    """
    agree = True
    for number, size in enumerate(sizes):
        one = prepare_sample(image, facts, replace(size, n=1))
        mirrored = one.network[:, :, ::-1]
        images = np.stack([mirrored if i % 2 else one.network for i in range(size.n)])
        both = reference(images), engine(images)
        agree = print_comparison(*both, str(size)) and agree
        if drawn and number == 0:
            _draw(one, both, facts, drawn)
    return agree


def _draw(
    one: Sample,
    both: tuple[Answers, Answers],
    facts: specs.ModelFacts,
    names: tuple[str, str],
) -> None:
    from farm.single.mmdet.drawing import show_or_write

    if not facts.labels_from:
        log.info(
            f"The names are drawn in the config's order. The order of the labels is not known:"
            f" mmdet takes it from the training annotation file, and {facts.labels_doubt}"
        )
    for side, name in zip(both, names, strict=True):
        if side.found is not None:  # raw outputs cannot be drawn
            show_or_write(one.picture, side.found[0], facts.classes, side.name, name)


@contextmanager
def as_step_failed(name: str) -> Iterator[None]:
    """Turn a runtime's own errors, of any kind, into an error that names the runtime.

    Raises:
        StepFailed: with the runtime's message in one line.
    """
    try:
        yield
    except (FarmError, MemoryError, OSError):
        raise
    except Exception as error:  # each runtime raises kinds of its own
        raise StepFailed(f"{name} cannot run it: {in_one_line(error)}") from error


@contextmanager
def as_input_error(where: str) -> Iterator[None]:
    """Turn outputs that do not fit the config into the user's error: any file may be given.

    where: what the outputs are of.

    Raises:
        InputError: with what to give instead.
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
