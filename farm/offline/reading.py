"""Read the records of another machine; every file is checked before any is kept.

Every record's key is computed again from its inputs and tools, figures and arrays must be of their
kinds, and each file must have the digest that sweep.json states; archives from before there were
digests have none. That finds damage and mistakes. What a machine says of itself cannot be proven,
so imported records stay apart from those that were made here (`store.imports`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from farm.catalog import OWN_STAGES
from farm.errors import InputError
from farm.offline.archive import Limits, Member, Refused, errors_named, members, write
from farm.offline.manifest import NAME, Manifest
from farm.offline.manifest import read as read_manifest
from farm.plan import STAGES
from farm.plan.keys import step_key
from farm.results import arrays
from farm.specs import Ref
from farm.store import read_failure, read_record

KEPT = {name: stage.files for name, stage in OWN_STAGES.items() if stage.files}
"""By stage, the small files from which verdicts and statistics are computed."""

LIMITS = Limits(files=100_000, file=arrays.MOST_BYTES, total=2 << 30)
_KIND = "an archive of records"
_RECORD = re.compile(r"store/(\w+)/([0-9a-f]{2})/(\2[0-9a-f]{62})/([\w.]+)")
_FAILURE = re.compile(r"store/failed/[0-9a-f]{64}\.json")
_MOST_JSON = 4 << 20


def opened(path: Path, scratch: Path) -> Path:
    """Copy the files that records have from an archive or a folder to `scratch`.

    Raises InputError for a file that is refused; nothing is kept then.
    """
    if not path.is_dir() and not path.is_file():
        raise InputError("no such folder or archive of records", str(path))
    folder = scratch / "records"
    folder.mkdir(parents=True)
    for member in members(path, LIMITS, _KIND):
        with errors_named(path, _KIND):
            if _accepted(member):
                write(member, folder)
    return folder


def _accepted(member: Member) -> bool:
    """Pass over what lies beside sweep.json and store/.

    Raises Refused for any other file in the store, and for JSON that is too large for a record.
    """
    if member.name == NAME:
        return True
    if not member.name.startswith("store/"):
        return False
    found = _RECORD.fullmatch(member.name)
    json = bool(_FAILURE.fullmatch(member.name) or (found and found[4] == "record.json"))
    if found and (found[1] not in STAGES or not (json or found[4] in KEPT.get(found[1], ()))):
        raise Refused(f"{member.name!r} is foreign: records of {found[1]} have no such file")
    if not found and not json:
        raise Refused(f"{member.name!r} is foreign: a store of records has no such file")
    if json and member.size > _MOST_JSON:
        raise Refused(f"{member.name!r} has {member.size} bytes, at most {_MOST_JSON} are accepted")
    return True


def read(folder: Path) -> Manifest:
    """Read a folder of records and check every one. Raises InputError for a bad one."""
    sweep = read_manifest(folder / NAME)
    if not (folder / "store").is_dir():
        raise InputError("it has no records: no store/ is beside sweep.json", str(folder))
    known = set(sweep.refs)
    for place in sorted((folder / "store").glob("*/??/*/record.json")):
        ref = Ref(place.parent.parent.parent.name, place.parent.name)
        if ref not in known:
            raise InputError(f"foreign: no cell of {NAME} has this step", str(place))
        _check(ref, place, sweep.stages)
    for place in sorted((folder / "store" / "failed").glob("*.json")):
        with _torn("a failure", place):
            failure = read_failure(place)
        if failure.key != place.stem or Ref(failure.stage, failure.key) not in known:
            raise InputError(f"foreign: no cell of {NAME} has this step", str(place))
    if sweep.digests:
        _check_digests(sweep.digests, folder)
    _check_arrays(folder)
    return sweep


@contextmanager
def _torn(what: str, place: Path) -> Iterator[None]:
    """Raise InputError, with the file's name, for whatever is wrong in it."""
    try:
        yield
    except (OSError, ValueError, InputError) as error:
        reason = f"torn: not {what} that can be read ({error})"
        raise InputError(f"{reason}; bring it here again", str(place)) from None


def _check(ref: Ref, place: Path, stages: Mapping[str, int]) -> None:
    with _torn("a record", place):
        record = read_record(place)
        for name, size in record.files.items():
            if name not in KEPT.get(ref.stage, ()) or (place.parent / name).stat().st_size != size:
                raise ValueError(f"not all of its files have their sizes: {name}")
    tools = sorted(record.toolchain.items())
    code = record.code or stages.get(record.stage, 0)
    expected = step_key(record.stage, code, record.inputs, tools)
    if (record.stage, record.key) != (ref.stage, ref.key) or expected != ref.key:
        reason = f"its key does not fit its inputs (expected {expected}): it was changed"
        raise InputError(f"{reason}; bring it here again", str(place))


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of its store, by name."""
    files = sorted(path for path in (folder / "store").rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _check_digests(expected: Mapping[str, str], folder: Path) -> None:
    """Compare digests: figures and the files beside a record are not in its key."""
    found = digests(folder)
    for name in sorted({*found, *expected}):
        if name not in found:
            reason = "missing"
        elif name not in expected:
            reason = f"foreign: {NAME} does not know it"
        elif found[name] != expected[name]:
            reason = f"changed: its sha256 is not the one that {NAME} has"
        else:
            continue
        raise InputError(f"{reason}; bring it here again", str(folder / name))


def _check_arrays(folder: Path) -> None:
    for stage, names in KEPT.items():
        for name in names:
            for place in sorted((folder / "store" / stage).glob(f"*/*/{name}")):
                with _torn("an array file", place):
                    arrays.READERS[name](place)
