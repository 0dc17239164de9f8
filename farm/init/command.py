"""`farm init`: looks at the files and the machine, and writes the matrix."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from farm import specs
from farm.cli import writable
from farm.config.loader import Matrix, load_matrix
from farm.errors import InputError, InputErrors, nearest
from farm.files import atomic, expanded
from farm.init import data, machine, shapes
from farm.init.text import First, named, text_of
from farm.plan import make_plan
from farm.plan.content import files
from farm.plan.content.configs import config_file

if TYPE_CHECKING:
    from farm.specs import Dims

log = logging.getLogger(__name__)


def init(options: argparse.Namespace) -> int:
    """Write the matrix, and print what is in it. Returns 0.

    Raises:
        InputError: an input is missing or wrong, they do not belong together, or the file exists.
        StepFailed: the config's test pipeline is of a kind that cannot be prepared.
    """
    output = _output(options.output, options.force)
    if options.images and not options.data:
        raise InputError("it says where the images of --data are; give that, too", "--images")
    model = specs.Model(
        name=_name(Path(options.config).stem, "model"),
        source="mmdet",
        config=_found_config(options.config),
        checkpoint=files.plain_file("checkpoint", options.checkpoint, Path.cwd()),
        allow_pickle=options.allow_pickle,
    )
    found = data.recognised(options.data, options.images) if options.data else None
    log.info("Loading the model, and looking for runtimes ...")
    facts, scale = _loaded(model)
    found = found or data.of_config(model)
    _require_classes(facts.classes, found, model.config.path)
    first = First(
        name=_name(output.stem, "own"),
        model=model.name,
        config=_config_name(options.config, model.config.path, output),
        checkpoint=named(Path(model.checkpoint.path), output),
        allow_pickle=options.allow_pickle,
        labels=() if _order_is_known(facts, found) else facts.classes,
        shapes=shapes.profiles(scale, facts),
        data=found,
        here=machine.look(),
        output=output,
    )
    matrix = _written(text_of(first), output)
    print(_summary(matrix, first, options.output))
    return 0


def _output(name: str, force: bool) -> Path:
    """The file to write. Raises InputError if it exists."""
    path = writable.file(name, "--output")
    if path.exists() and not force:
        raise InputError(
            f"{name} exists, and is not replaced; give another file, or --force", "--output"
        )
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{name!r} is no name of a matrix; expected one that ends in .yaml", "-o")
    return path


def _found_config(name: str) -> specs.File:
    if name.endswith((".pth", ".onnx")):
        raise InputError(f"{name} is no config; expected CONFIG, then CHECKPOINT", "farm init")
    return config_file(name, Path.cwd())


def _loaded(model: specs.Model) -> tuple[specs.ModelFacts, Dims | None]:
    """The model's facts, and the size to which its test pipeline resizes. Raises InputError."""
    from farm.sources import mmdet

    return mmdet.check(model), mmdet.size(model)


def _require_classes(classes: Sequence[str], found: data.Data, where: str) -> None:
    """Raise InputError where the data set lacks a class of the model."""
    lost = [name for name in classes if name not in found.classes]
    if lost:
        known = ", ".join(found.classes[:12])
        raise InputError(
            f"the model's class {lost[0]!r} is not among the data set's categories"
            f"{nearest(lost[0], found.classes) if len(found.classes) > 12 else ': ' + known}"
            f" ({len(lost)} of the model's {len(classes)} classes are not); expected the data set"
            " that the model is for",
            where,
        )


def _order_is_known(facts: specs.ModelFacts, found: data.Data) -> bool:
    """Whether `check` will know which class each label is; see `stages.check`."""
    order = tuple(name for name in found.classes if name in facts.classes)
    return bool(facts.labels_from) or (order == facts.classes and not facts.labels_contradicted)


def _name(text: str, default: str) -> str:
    """A name for a matrix or a model out of the name of a file."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-")[:100] or default


def _config_name(name: str, path: str, output: Path) -> str:
    """The config as the matrix names it: one that mmdet ships stays as it was given."""
    return named(Path(path), output) if expanded(name, Path.cwd()).is_file() else name


def _written(text: str, output: Path) -> Matrix:
    """Write the matrix, once it can be planned. Raises InputError."""
    with atomic.replacing(output) as part:
        part.write_text(text)
        matrix = load_matrix(part)
        if missing := make_plan(matrix).missing:
            raise InputErrors(missing)
    return matrix


def _summary(matrix: Matrix, first: First, name: str) -> str:
    runtimes = ", ".join(first.here.runtimes)
    images = first.data.limit or first.data.images
    return "\n".join(
        (
            f"Wrote {name}: {len(matrix.cells)} cells of {runtimes}, on {images} images.",
            f"Next: farm plan {name}",
            f"      farm run {name}",
        )
    )
