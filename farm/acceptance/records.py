"""Records brought from one machine to another: what a sweep found, without its large files.

    sweep.json                               the cells, the key of each of their steps, thresholds
    store/<stage>/<2 digits>/<key>/...       records with the small files that results need
    store/failed/<key>.json                  failures that would repeat themselves

Where they are read every record's key is worked out anew from its inputs and tools, and every file
is held against the digest that sweep.json has of it; archives from before there were digests pass.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, replace
from pathlib import Path

from farm.acceptance.brought import NAME, VERSION, Brought
from farm.acceptance.brought import read as brought_sweep
from farm.acceptance.contents import Pack
from farm.decoded import decoded
from farm.errors import InputError
from farm.inputs import Ref
from farm.plan import PlannedCell
from farm.plan.keys import step_key
from farm.store import Failure, Record, Store

KEPT = {"verify": ("pairs.npz", "raw.npz"), "measure": ("samples.npy",)}
"""By stage, the files that travel: small, and what verdicts and statistics are made from."""


def brought(
    pack: Pack, target: str, planned: Sequence[PlannedCell], reasons: Mapping[str, str]
) -> Brought:
    return Brought(VERSION, pack.name, target, pack.verify, {}, dict(reasons), tuple(planned))


def save(sweep: Brought, store: Store, archive: Path) -> None:
    """Write the records of the sweep as one .tar.gz, by temporary file and rename."""
    members = dict(_members(sweep, store))
    digests = {name: _digest(data) for name, data in members.items()}
    text = json.dumps(asdict(replace(sweep, digests=digests)), indent=1)
    part = archive.with_name(f"{archive.name}.part")
    with tarfile.open(part, "w:gz") as tar:
        for name, data in {NAME: text.encode(), **members}.items():
            _add(tar, name, data)
    part.replace(archive)


def _members(sweep: Brought, store: Store) -> Iterator[tuple[str, bytes]]:
    for ref in sweep.refs:
        if record := store.account(ref):
            yield from _record(record, store.path(ref))
        elif failure := store.failure(ref.key):
            text = json.dumps(asdict(failure), indent=1)
            yield f"store/failed/{ref.key}.json", text.encode()


def _record(record: Record, folder: Path) -> Iterator[tuple[str, bytes]]:
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
    yield f"{place}/record.json", text.encode()
    for name in sorted(keep):
        yield f"{place}/{name}", (folder / name).read_bytes()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


def read(folder: Path) -> Brought:
    """The sweep of a folder, every record of it looked at. Raises InputError for a bad one."""
    sweep, store = brought_sweep(folder / NAME), Store(folder / "store")
    known = set(sweep.refs)
    for place in sorted((folder / "store").glob("*/??/*/record.json")):
        ref = Ref(place.parent.parent.parent.name, place.parent.name)
        if ref not in known:
            raise InputError(f"foreign: no cell of {NAME} has this step", str(place))
        _check(ref, store, place, sweep.stages)
    for place in sorted((folder / "store" / "failed").glob("*.json")):
        _check_failure(place, store, known)
    if sweep.digests:
        _check_digests(sweep.digests, folder)
    return sweep


def _check(ref: Ref, store: Store, place: Path, stages: Mapping[str, int]) -> None:
    record = store.account(ref)
    if record is None:
        reason = "torn: not a record that can be read, or not all of its files have their sizes"
        raise InputError(f"{reason}; bring it here again", str(place))
    tools = sorted(record.toolchain.items())
    code = record.code or stages.get(record.stage, 0)
    expected = step_key(record.stage, code, record.inputs, tools)
    if (record.stage, record.key) != (ref.stage, ref.key) or expected != ref.key:
        reason = f"its key does not fit its inputs (expected {expected}): it was changed"
        raise InputError(f"{reason}; bring it here again", str(place))


def _check_failure(place: Path, store: Store, known: Set[Ref]) -> None:
    failure = store.failure(place.stem)
    if failure is None:
        raise InputError("torn: not a failure that can be read", str(place))
    decoded(Failure, asdict(failure), str(place))
    if failure.key != place.stem or Ref(failure.stage, failure.key) not in known:
        raise InputError(f"foreign: no cell of {NAME} has this step", str(place))


def _check_digests(digests: Mapping[str, str], folder: Path) -> None:
    """What else a record says is not in its key: figures, and the files beside it."""
    files = (path for path in (folder / "store").rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path for path in files}
    for name in sorted({*found, *digests}):
        if name not in found:
            reason = "missing"
        elif name not in digests:
            reason = f"foreign: {NAME} does not know it"
        elif _digest(found[name].read_bytes()) != digests[name]:
            reason = f"changed: its sha256 is not the one that {NAME} has"
        else:
            continue
        raise InputError(f"{reason}; bring it here again", str(folder / name))


def take_in(sweep: Brought, folder: Path, store: Store) -> int:
    """Copy what the store has not into it; returns how many records that were."""
    own, count = Store(folder / "store"), 0
    for ref in sweep.refs:
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
