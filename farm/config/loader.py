"""Load a matrix: one YAML file, validated, with every error at its line."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from farm.catalog import RUNTIMES, runtime_of
from farm.config.document import Document, load
from farm.config.expand import combinations, expand
from farm.config.mistakes import explained, unknown_names, without_data
from farm.config.schema import MatrixSpec
from farm.config.selections import with_lists
from farm.errors import InputError, together
from farm.options import RuntimeOptions, explain
from farm.specs import Cell

__all__ = ["Cell", "Document", "Matrix", "load_matrix", "validate"]

log = logging.getLogger(__name__)

_MOST_CELLS = 250_000

_IDLE = {
    "exclude": "this exclude takes no cell away: none has these values together",
    "include": "this include adds no cell: no runtime has these values on these targets",
}

_RENAMED_DATASETS = {"shapes": "synthetic"}
"""Former names of types of data sets, which matrices may still use."""


@dataclass(frozen=True)
class Matrix:
    """A valid matrix: its values, its cells, and the lines of the file that set them."""

    spec: MatrixSpec
    cells: tuple[Cell, ...]
    document: Document

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def folder(self) -> Path:
        """The folder from which relative paths in the matrix start."""
        return self.document.folder

    def require_folder(self) -> None:
        """Check that the folder is on this machine, where the matrix names one.

        Raises:
            InputError: it is not.
        """
        if self.spec.folder is not None and not self.folder.is_dir():
            place = self.document.where(("folder",))
            raise InputError(f"there is no folder {self.folder}", place)


def load_matrix(path: Path | str, overrides: Sequence[str] = ()) -> Matrix:
    """Read a matrix file, apply overrides, validate it and expand its cells.

    Raises:
        InputError: names every mistake with its line.
    """
    matrix = validate(load(Path(path), overrides))
    matrix.require_folder()
    return matrix


def validate(document: Document) -> Matrix:
    """Validate a document and expand its cells. The files that it names need not be here.

    Raises:
        InputError: names every mistake with its line.
    """
    document = with_lists(_with_current_names(document))
    try:
        spec = MatrixSpec.model_validate(document.values)
    except ValidationError as error:
        found = error.errors()
        raise together(explained(document, details) for details in found) from None
    options, wrong = _options(document, spec)
    unknown = itertools.chain(unknown_names(document, spec), without_data(document, spec), wrong)
    if first := next(unknown, None):
        raise together(itertools.chain([first], unknown))
    spec = spec.model_copy(update={"runtime_options": options})
    if (count := combinations(spec)) > _MOST_CELLS:
        message = f"its axes make {count} cells; {_MOST_CELLS} are the most: split the matrix"
        raise InputError(message, document.where(()))
    cells, idle = expand(spec)
    for key in idle:
        log.warning("%s: %s", document.where(key), _IDLE[str(key[0])])
    if not cells:
        on_cpus = [name for name, one in RUNTIMES.items() if one.packages and not one.accelerators]
        raise InputError(
            "no cell is left: the excludes take all of them, or no runtime here runs on the "
            f"targets ({', '.join(on_cpus)} run on CPUs) or has the precisions",
            document.where(("exclude",) if spec.exclude else ("runtimes",)),
        )
    return Matrix(spec, cells, document)


def _with_current_names(document: Document) -> Document:
    """Replace the former name of a data set's type, and warn where it is used.

    A type alone, as in `dataset: config`, is a data set without options.
    """
    dataset = document.values.get("dataset")
    if isinstance(dataset, str):
        dataset = {"type": dataset}
        document = replace(document, values=document.values | {"dataset": dataset})
    if not isinstance(dataset, dict):
        return document
    former = dataset.get("type")
    if not isinstance(former, str) or former not in _RENAMED_DATASETS:
        return document
    current = _RENAMED_DATASETS[former]
    place = document.where(("dataset", "type"))
    log.warning("%s: the data set type '%s' is now called '%s'", place, former, current)
    values = document.values | {"dataset": {**dataset, "type": current}}
    return replace(document, values=values)


def _options(
    document: Document, spec: MatrixSpec
) -> tuple[dict[str, dict[str, Any]], list[InputError]]:
    """Validate the options of runtimes (`"false"` is false); return them and their mistakes.

    A runtime without an option model reports mistakes itself, when it is used.
    """
    taken, wrong = dict(spec.runtime_options), list[InputError]()
    for runtime, options in spec.runtime_options.items():
        if known := runtime_of(runtime).options:
            try:
                taken[runtime] = known.model_validate(options).model_dump(exclude_unset=True)
            except ValidationError as error:
                found = error.errors()
                wrong += [_wrong_option(document, runtime, known, details) for details in found]
    return taken, wrong


def _wrong_option(
    document: Document, runtime: str, known: type[RuntimeOptions], details: ErrorDetails
) -> InputError:
    place = document.where(("runtime_options", runtime, str(details["loc"][0])))
    return InputError(explain(runtime, known, details), place)
