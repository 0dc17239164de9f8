"""Write records to a file for another machine, without large files; read and import such a file.

Every file is checked before any is kept: every record's key is computed again from its inputs and
tools, figures and arrays must have their types, and each file must have the digest that sweep.json
states (the oldest archives state none). That finds damage and mistakes. It cannot prove that a
machine measured what it says, so imported records stay apart from those that were made here
(`store.imports`).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from farm.catalog import OWN_STAGES
from farm.errors import InputError
from farm.files import atomic
from farm.offline.archive.members import Limits, Member, Refused, extract_member
from farm.offline.archive.reading import errors_named, members
from farm.offline.manifest import NAME, Manifest, read_manifest
from farm.plan import STAGES
from farm.plan.keys import step_key
from farm.results import arrays
from farm.specs import Ref
from farm.store import Record, Store, as_json, imports, integrity, read_failure, read_record

KEPT = {name: stage.files for name, stage in OWN_STAGES.items() if stage.files}
"""By stage, the small files from which verdicts and statistics are computed."""

LIMITS = Limits(files=100_000, file=arrays.MOST_BYTES, total=2 << 30)
_KIND = "an archive of records"
_RECORD = re.compile(r"store/(\w+)/([0-9a-f]{2})/(\2[0-9a-f]{62})/([\w.]+)")
_FAILURE = re.compile(r"store/failed/[0-9a-f]{64}\.json")
_MOST_JSON = 4 << 20


def extract(path: Path, scratch: Path) -> Path:
    """Copy the files of records from an archive or a folder to a new folder in `scratch`.

    Raises:
        InputError: there is no such archive or folder, it is damaged, or a file is not accepted.
    """
    if not path.is_dir() and not path.is_file():
        raise InputError("no such folder or archive of records", str(path))
    folder = scratch / "records"
    folder.mkdir(parents=True)
    for member in members(path, LIMITS, _KIND):
        with errors_named(path, _KIND):
            if _accepted(member):
                extract_member(member, folder)
    return folder


def _accepted(member: Member) -> bool:
    """Return whether a file belongs to records; what lies beside sweep.json and store/ does not.

    Raises Refused for any other file in the store, and for JSON that is too large for a record.
    """
    if member.name == NAME:
        return True
    if not member.name.startswith("store/"):
        return False
    found = _RECORD.fullmatch(member.name)
    is_json = bool(_FAILURE.fullmatch(member.name) or (found and found[4] == "record.json"))
    if found and (found[1] not in STAGES or not (is_json or found[4] in KEPT.get(found[1], ()))):
        raise Refused(f"{member.name!r} is unexpected: records of {found[1]} have no such file")
    if not found and not is_json:
        raise Refused(f"{member.name!r} is unexpected: a store of records has no such file")
    if is_json and member.size > _MOST_JSON:
        raise Refused(f"{member.name!r} has {member.size} bytes, at most {_MOST_JSON} are accepted")
    return True


def read_records(folder: Path) -> Manifest:
    """Read the manifest of a folder of records, and check every record.

    Raises:
        InputError: a file is damaged, missing or changed, or no cell has the step of a record.
    """
    sweep = read_manifest(folder / NAME)
    if not (folder / "store").is_dir():
        raise InputError("it has no records: no store/ is beside sweep.json", str(folder))
    known = set(sweep.refs)
    for path in sorted((folder / "store").glob("*/??/*/record.json")):
        ref = Ref(path.parent.parent.parent.name, path.parent.name)
        if ref not in known:
            raise InputError(f"unexpected: no cell of {NAME} has this step", str(path))
        _check_record(ref, path, sweep.stages)
    for path in sorted((folder / "store" / "failed").glob("*.json")):
        with _damaged("a failure", path):
            failure = read_failure(path)
        if failure.key != path.stem or Ref(failure.stage, failure.key) not in known:
            raise InputError(f"unexpected: no cell of {NAME} has this step", str(path))
    if sweep.digests:
        _check_digests(sweep.digests, folder)
    _check_arrays(folder)
    return sweep


@contextmanager
def _damaged(what: str, path: Path) -> Iterator[None]:
    """Raise InputError, with the file's name, in place of the error in this block."""
    try:
        yield
    except (OSError, ValueError, InputError) as error:
        reason = f"damaged: not {what} that can be read ({error})"
        raise InputError(f"{reason}; copy it here again", str(path)) from None


def _check_record(ref: Ref, path: Path, stages: Mapping[str, int]) -> None:
    with _damaged("a record", path):
        record = read_record(path)
        for name, size in record.files.items():
            if name not in KEPT.get(ref.stage, ()) or (path.parent / name).stat().st_size != size:
                raise ValueError(f"{name} has not the size that the record states")
    for name in record.files if record.digest else ():
        if integrity.of_file(path.parent / name) != record.digests.get(name):
            reason = "changed: its sha256 is not the one that its record states"
            raise InputError(f"{reason}; copy it here again", str(path.parent / name))
    tools = sorted(record.toolchain.items())
    code = record.code or stages.get(record.stage, 0)
    expected = step_key(record.stage, code, record.inputs, tools)
    if (record.stage, record.key) != (ref.stage, ref.key) or expected != ref.key:
        reason = f"its key does not fit its inputs (expected {expected}): it was changed"
        raise InputError(f"{reason}; copy it here again", str(path))


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of the folder's store, by name."""
    files = sorted(path for path in (folder / "store").rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _digest(path.read_bytes()) for path in files}


def _check_digests(expected: Mapping[str, str], folder: Path) -> None:
    """Compare digests, since a record's key covers neither its figures nor its files."""
    found = digests(folder)
    for name in sorted({*found, *expected}):
        if name not in found:
            reason = "missing"
        elif name not in expected:
            reason = f"unexpected: {NAME} does not list it"
        elif found[name] != expected[name]:
            reason = f"changed: its sha256 is not the one that {NAME} states"
        else:
            continue
        raise InputError(f"{reason}; copy it here again", str(folder / name))


def _check_arrays(folder: Path) -> None:
    for stage, names in KEPT.items():
        for name in names:
            for path in sorted((folder / "store" / stage).glob(f"*/*/{name}")):
                with _damaged("an array file", path):
                    arrays.READERS[name](path)


def save(sweep: Manifest, store: Store, archive: Path) -> None:
    """Write the records of the sweep as one .tar.gz. Raises OSError."""
    contents = dict(_record_files(sweep, store))
    sweep = replace(sweep, digests={name: _digest(data) for name, data in contents.items()})
    text = json.dumps(asdict(sweep), indent=1)
    with atomic.replacing(archive) as part, tarfile.open(part, "w:gz") as tar:
        for name, data in {NAME: text.encode(), **contents}.items():
            _add(tar, name, data)


def _record_files(sweep: Manifest, store: Store) -> Iterator[tuple[str, bytes]]:
    others = [one.store for one in imports.imports(store)]
    for ref in sweep.refs:
        failure = None if store.any_record(ref) else store.failure(ref.key)
        if failure:
            text = json.dumps(asdict(failure), indent=1)
            yield f"store/failed/{ref.key}.json", text.encode()
            continue
        for holder in (store, *others):
            if record := holder.any_record(ref):
                yield from small_files(record, holder.path(ref))
                break


def small_files(record: Record, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the files that are packed of a record.

    These are the record, without the name of its machine, and the files in `KEPT`.
    """
    keep = sorted(name for name in record.files if name in KEPT.get(record.stage, ()))
    contents = {name: (folder / name).read_bytes() for name in keep}
    packed = replace(
        record,
        files={name: size for name, size in record.files.items() if name in contents},
        left_out={name: size for name, size in record.files.items() if name not in contents}
        | record.left_out,
        node={name: value for name, value in record.node.items() if name != "host"},
        # Records of earlier versions have none.
        digests={name: _digest(data) for name, data in contents.items()} | record.digests,
    )
    prefix = f"store/{record.stage}/{record.key[:2]}/{record.key}"
    yield f"{prefix}/record.json", as_json(packed).encode()
    for name, data in contents.items():
        yield f"{prefix}/{name}", data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


def import_records(sweep: Manifest, folder: Path, store: Store, name: str = "records") -> int:
    """Copy a folder that `read_records` has checked into the store, apart from its own records.

    name: of the archive or folder, as people know it. Returns the number of records that no earlier
    import has.
    """
    own, others = Store(folder / "store"), [one.store for one in imports.imports(store)]
    new = [ref for ref in sweep.refs if _has(own, ref) and not any(_has(o, ref) for o in others)]
    target = imports.place(store, import_digest(folder))
    if not target.is_dir():
        work = store.work_folder("import")
        for path in sorted((folder / "store").iterdir()):
            shutil.copytree(path, work / path.name)
        imports.write_origin(name, target.name, work)
        target.parent.mkdir(exist_ok=True)
        work.rename(target)
    imports.write_origin(name, target.name, target)
    store.put_import(target.name)
    return len(new)


def import_digest(folder: Path) -> str:
    """Return the sha256 of the names and contents of all files of a folder of records."""
    found = {**digests(folder), NAME: _digest((folder / NAME).read_bytes())}
    return _digest(json.dumps(found, sort_keys=True).encode())


def _has(store: Store, ref: Ref) -> bool:
    return store.any_record(ref) is not None or store.failure(ref.key) is not None
