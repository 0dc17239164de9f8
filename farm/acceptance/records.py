"""Records brought from one machine to another: what a sweep found, without its large files.

    sweep.json                               the cells, the key of each of their steps, thresholds
    store/<stage>/<2 digits>/<key>/...       records with the small files that results need
    store/failed/<key>.json                  failures that would repeat themselves

Every record's key is worked out anew where it is read: one that was changed is refused.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from farm.acceptance.contents import Pack, read_json
from farm.decoded import decoded
from farm.errors import InputError
from farm.inputs import Ref
from farm.matrix import Cell
from farm.plan import PlannedCell
from farm.plan.graph import VERSIONS
from farm.plan.keys import step_key
from farm.store import Failure, Record, Store

VERSION = 1
NAME = "sweep.json"

KEPT = {"verify": ("pairs.npz", "raw.npz"), "measure": ("samples.npy",)}
"""By stage, the files that travel: small, and what verdicts and statistics are made from."""


@dataclass(frozen=True)
class BroughtCell:
    cell: Cell
    steps: dict[str, str]
    refused: str | None = None


@dataclass(frozen=True)
class Brought:
    """A sweep's cells on one target. reasons: why a step, by its key, did not end well, where no
    failure is recorded; verify: the thresholds that the sweep was run with."""

    version: int
    name: str
    target: str
    verify: dict[str, Any]
    stages: dict[str, int]
    reasons: dict[str, str]
    cells: tuple[BroughtCell, ...]

    @property
    def planned(self) -> tuple[PlannedCell, ...]:
        return tuple(PlannedCell(one.cell, one.steps, one.refused) for one in self.cells)


def brought(
    pack: Pack, target: str, planned: Sequence[PlannedCell], reasons: Mapping[str, str]
) -> Brought:
    cells = tuple(BroughtCell(one.cell, dict(one.steps), one.refused) for one in planned)
    stages = {**VERSIONS, **pack.versions}
    return Brought(VERSION, pack.name, target, pack.verify, stages, dict(reasons), cells)


def save(sweep: Brought, store: Store, archive: Path) -> None:
    """Write the records of the sweep as one .tar.gz, by temporary file and rename."""
    part = archive.with_name(f"{archive.name}.part")
    with tarfile.open(part, "w:gz") as tar:
        _add(tar, NAME, json.dumps(asdict(sweep), indent=1).encode())
        for ref in _refs(sweep):
            if record := store.account(ref):
                _add_record(tar, record, store.path(ref))
            elif failure := store.failure(ref.key):
                text = json.dumps(asdict(failure), indent=1)
                _add(tar, f"store/failed/{ref.key}.json", text.encode())
    part.replace(archive)


def _refs(sweep: Brought) -> list[Ref]:
    found = (Ref(stage, key) for cell in sweep.cells for stage, key in cell.steps.items())
    return list(dict.fromkeys(found))


def _add_record(tar: tarfile.TarFile, record: Record, folder: Path) -> None:
    """Without the name of the machine, which tells nothing that its processor's does not."""
    keep = {name for name in record.files if name in KEPT.get(record.stage, ())}
    brought_along = replace(
        record,
        files={name: size for name, size in record.files.items() if name in keep},
        left_out={name: size for name, size in record.files.items() if name not in keep}
        | record.left_out,
        node={name: value for name, value in record.node.items() if name != "host"},
    )
    place = f"store/{record.stage}/{record.key[:2]}/{record.key}"
    text = json.dumps(asdict(brought_along), indent=1, sort_keys=True)
    _add(tar, f"{place}/record.json", text.encode())
    for name in sorted(keep):
        _add(tar, f"{place}/{name}", (folder / name).read_bytes())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


def read(folder: Path) -> Brought:
    """The sweep of a folder, every record of it looked at. Raises InputError for a bad one."""
    path = folder / NAME
    sweep = decoded(Brought, read_json(path, "folder of records", VERSION), str(path))
    if of_others := sorted({one.cell.target for one in sweep.cells} - {sweep.target}):
        raise InputError(f"cells of target {of_others[0]!r}, expected {sweep.target!r}", str(path))
    known = set(_refs(sweep))
    for place in sorted((folder / "store").glob("*/??/*/record.json")):
        ref = Ref(place.parent.parent.parent.name, place.parent.name)
        if ref not in known:
            raise InputError(f"foreign: no cell of {NAME} has this step", str(place))
        _check(ref, Store(folder / "store"), place, sweep.stages)
    for place in sorted((folder / "store" / "failed").glob("*.json")):
        if place.stem not in {ref.key for ref in known}:
            raise InputError(f"foreign: no cell of {NAME} has this step", str(place))
        if Store(folder / "store").failure(place.stem) is None:
            raise InputError("torn: not a failure that can be read", str(place))
    return sweep


def _check(ref: Ref, store: Store, place: Path, stages: Mapping[str, int]) -> None:
    record = store.account(ref)
    if record is None:
        reason = "torn: not a record that can be read, or not all of its files have their sizes"
        raise InputError(f"{reason}; bring it here again", str(place))
    tools = sorted(record.toolchain.items())
    version = stages.get(record.stage, 0)
    expected = step_key(record.stage, version, record.inputs, tools)
    if (record.stage, record.key) != (ref.stage, ref.key) or expected != ref.key:
        reason = f"its key does not fit its inputs (expected {expected}): it was changed"
        raise InputError(f"{reason}; bring it here again", str(place))


def take_in(sweep: Brought, folder: Path, store: Store) -> int:
    """Copy what the store has not into it; returns how many records that were."""
    own, count = Store(folder / "store"), 0
    for ref in _refs(sweep):
        if store.account(ref):
            continue
        if own.account(ref):
            _copy(own.path(ref), store.path(ref), store.work_folder(ref.key))
            count += 1
        elif (failure := own.failure(ref.key)) and not store.failure(ref.key):
            store.record_failure(Failure(**asdict(failure)), None)
            count += 1
    return count


def _copy(source: Path, place: Path, work: Path) -> None:
    shutil.copytree(source, work, dirs_exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)  # torn, if it is there at all
    place.parent.mkdir(parents=True, exist_ok=True)
    work.rename(place)


def opened(path: Path, scratch: Path) -> Path:
    """The folder of records: itself, or that of its archive, unpacked into `scratch`."""
    from farm.acceptance.unpack import extract

    if path.is_dir():
        return path
    if not path.is_file():
        raise InputError("no such folder or archive of records", str(path))
    extract(path, scratch / "records", "an archive of records")
    return scratch / "records"
