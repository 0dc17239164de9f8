"""Read `sweep.json`, the manifest of imported records. Names become paths, so each is checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from farm import jsonfile
from farm.catalog import POSTPROCESS, PRECISIONS, RUNTIMES
from farm.config.values import Name
from farm.errors import InputError, nearest
from farm.offline.document import read_json, require_ref
from farm.plan import PlannedCell
from farm.specs import Ref
from farm.store.figures import count, require

VERSION = 2
_VERSIONS = (1, VERSION)
NAME = "sweep.json"


@dataclass(frozen=True)
class Manifest:
    """The cells of a sweep that another machine ran.

    verify: the thresholds of the sweep. reasons: by a step's key, why it did not end well where no
    failure is recorded. digests: the sha256 of every other file. Version 1 has one target only, and
    may have no digests; `stages` are then the version numbers of stages, in the keys of records
    that have no digest of the farm's code.
    """

    version: int
    name: str
    verify: dict[str, Any]
    reasons: dict[str, str]
    cells: tuple[PlannedCell, ...]
    digests: dict[str, str] = field(default_factory=dict)
    target: str | None = None
    stages: dict[str, int] = field(default_factory=dict)

    @property
    def targets(self) -> list[str]:
        """The names of the targets, each once."""
        return list(dict.fromkeys(one.cell.target for one in self.cells))

    @property
    def refs(self) -> list[Ref]:
        """The steps of all cells, each once."""
        found = (Ref(stage, key) for cell in self.cells for stage, key in cell.steps.items())
        return list(dict.fromkeys(found))


def read(path: Path) -> Manifest:
    """Raises InputError for what a matrix and its plan could not have made."""
    sweep = jsonfile.decode(Manifest, read_json(path, "folder of records", _VERSIONS), str(path))
    try:
        if sweep.target is not None and (others := set(sweep.targets) - {sweep.target}):
            raise ValueError(f"cells of target {min(others)!r}, expected {sweep.target!r}")
        require_cells(sweep.name, sweep.cells)
    except (ValueError, InputError) as error:
        raise InputError(str(error), str(path)) from None
    for ref in sweep.refs:
        require_ref(ref, str(path))
    return sweep


def require_cells(sweep: str, cells: Iterable[PlannedCell]) -> None:
    """Raises ValueError or InputError for names and values that no matrix can have."""
    _name("name", sweep)
    for one in cells:
        _name("target", one.cell.target)
        _name("model", one.cell.model)
        _name("shape", one.cell.shape)
        _known("runtime", one.cell.runtime, RUNTIMES)
        _known("precision", one.cell.precision, PRECISIONS)
        _known("postprocess", one.cell.postprocess, POSTPROCESS)
        require("opset", one.cell.opset, count)
        require("workspace_bytes", one.cell.workspace_bytes, count)


def _name(what: str, value: str) -> None:
    try:
        TypeAdapter(Name).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{what}: {error.errors()[0]['ctx']['error']}") from None


def _known(what: str, word: str, words: Iterable[str]) -> None:
    if word not in words:
        raise ValueError(f"unknown {what} {word!r}{nearest(word, words)}")
