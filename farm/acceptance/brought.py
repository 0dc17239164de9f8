"""What `sweep.json` says of records that were brought here: names become paths, so each is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from farm.acceptance.contents import read_json, require_ref
from farm.catalog import POSTPROCESS, PRECISIONS, RUNTIMES
from farm.config.values import Name
from farm.decoded import decoded
from farm.errors import InputError, nearest
from farm.plan import PlannedCell
from farm.specs import Ref
from farm.store.figures import count, require

VERSION = 1
NAME = "sweep.json"


@dataclass(frozen=True)
class Brought:
    """A sweep's cells on one target. reasons: why a step, by its key, did not end well, where no
    failure is recorded; verify: the thresholds that the sweep was run with; stages: the numbers of
    stages' versions, where records do not have the digest of their code; digests: the sha256 of
    every other file, {} in archives from before there were any."""

    version: int
    name: str
    target: str
    verify: dict[str, Any]
    stages: dict[str, int]
    reasons: dict[str, str]
    cells: tuple[PlannedCell, ...]
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def refs(self) -> list[Ref]:
        """Of the steps, each once."""
        found = (Ref(stage, key) for cell in self.cells for stage, key in cell.steps.items())
        return list(dict.fromkeys(found))


def read(path: Path) -> Brought:
    """Raises InputError for what a matrix and its plan could not have made."""
    sweep = decoded(Brought, read_json(path, "folder of records", VERSION), str(path))
    try:
        _check(sweep)
    except (ValueError, InputError) as error:
        raise InputError(str(error), str(path)) from None
    for ref in sweep.refs:
        require_ref(ref, str(path))
    return sweep


def _check(sweep: Brought) -> None:
    """Raises ValueError."""
    _name("name", sweep.name)
    _name("target", sweep.target)
    if of_others := sorted({one.cell.target for one in sweep.cells} - {sweep.target}):
        raise ValueError(f"cells of target {of_others[0]!r}, expected {sweep.target!r}")
    for one in sweep.cells:
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
