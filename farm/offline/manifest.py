"""Check the JSON documents of packs and of records, and read the manifest of records, `sweep.json`.

Names in these documents become paths, so all are checked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from farm.catalog import POSTPROCESS, PRECISIONS, RUNTIMES
from farm.config.values import Name
from farm.errors import InputError, nearest
from farm.files import jsonfile
from farm.plan import STAGES, PlannedCell
from farm.specs import Ref
from farm.store.figures import count, require

VERSION = 2

_VERSIONS = (1, VERSION)

NAME = "sweep.json"


def read_json(path: Path, kind: str, versions: Collection[int]) -> Mapping[str, Any]:
    """Return the JSON mapping of a file that states its version.

    Raises:
        InputError: the file cannot be read, or its version is none of these.
    """
    try:
        found = jsonfile.read(path)
    except OSError as error:
        reason = f"no {kind} here: cannot read {path.name} ({error.strerror})"
        raise InputError(reason, str(path.parent)) from None
    except ValueError as error:
        raise InputError(f"damaged, or not a {kind}: not valid JSON ({error})", str(path)) from None
    return require_version(found, kind, versions, str(path))


def require_version(
    found: Any, kind: str, versions: Collection[int], where: str
) -> Mapping[str, Any]:
    """Return the mapping if it states one of these versions. Raises InputError otherwise."""
    version = found.get("version") if isinstance(found, dict) else None
    if version not in versions or isinstance(version, bool):
        known = " and ".join(map(str, versions))
        raise InputError(f"a {kind} of version {version!r}; this farm reads version {known}", where)
    return dict(found)


def require_ref(ref: Ref, where: str, stages: Collection[str] = STAGES) -> None:
    """Check a stage and a key, which become a path. Raises InputError."""
    if ref.stage not in stages:
        raise InputError(f"unknown stage {ref.stage!r}{nearest(ref.stage, stages)}", where)
    require_key(ref.key, ref.stage, where)


def require_key(key: str, what: str, where: str) -> None:
    """Check that a key has 64 hex digits. Raises InputError."""
    if not re.fullmatch("[0-9a-f]{64}", key):
        raise InputError(f"{what}: {key!r} is not a key; expected 64 hex digits", where)


@dataclass(frozen=True)
class Manifest:
    """The cells of a sweep that another machine ran.

    verify: the tolerances of the sweep. reasons: by a step's key, why it did not succeed, where no
    failure is recorded. digests: the sha256 of every other file. Manifests of version 1 have one
    `target` and may have no digests. Their `stages` are version numbers, which the keys of records
    have in place of a digest of the farm's code.
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


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises:
        InputError: the file is damaged, or names what no matrix and no plan can have.
    """
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
    """Check the names and values of cells against what a matrix can have.

    Raises:
        ValueError, InputError: a value that no matrix can have.
    """
    _require_name("name", sweep)
    for one in cells:
        _require_name("target", one.cell.target)
        _require_name("model", one.cell.model)
        _require_name("shape", one.cell.shape)
        _require_known("runtime", one.cell.runtime, RUNTIMES)
        _require_known("precision", one.cell.precision, PRECISIONS)
        _require_known("postprocess", one.cell.postprocess, POSTPROCESS)
        require("opset", one.cell.opset, count)
        require("workspace_bytes", one.cell.workspace_bytes, count)


def _require_name(what: str, value: str) -> None:
    try:
        TypeAdapter(Name).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{what}: {error.errors()[0]['ctx']['error']}") from None


def _require_known(what: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}{nearest(value, known)}")
