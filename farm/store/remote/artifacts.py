"""Where the objects of an artifact lie, and how they come to a folder and from one.

    <stage>/<first two digits of key>/<key>/record.json      a finished step; put last
                                       .../<make>/FILE        its files, of one make
    failed/<key>/failure.json, step.log, kept/FILE           a failure that will repeat itself
    claims/<key>, claims/sessions/<token>                    who is running a step

A make is named by the digest of its files. So two nodes that run one step at the same time do not
overwrite each other's files, and whose record is there first has the artifact.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from farm.errors import InputError
from farm.specs import Ref
from farm.store.integrity import LOG, RECORD, Alteration
from farm.store.objects import Objects, at_once
from farm.store.records import Failure, Record, as_json, parse_failure, parse_record

FAILURE = "failure.json"

_OBJECT = re.compile(r"(\w+)/[0-9a-f]{2}/([0-9a-f]{64})/.")


def place(ref: Ref) -> str:
    """Return the name below which all objects of an artifact are."""
    return f"{ref.stage}/{ref.key[:2]}/{ref.key}"


def make(ref: Ref, record: Record) -> str:
    """Return the name below which the files of an artifact are."""
    return f"{place(ref)}/{record.content[:16]}"


def ref_of(name: str) -> Ref | None:
    """Return the artifact that an object belongs to; None if it belongs to none."""
    found = _OBJECT.match(name)
    return Ref(found[1], found[2]) if found else None


def read_record(objects: Objects, ref: Ref) -> Record | None:
    """Return the record of an artifact; None if there is none.

    Raises:
        ValueError, InputError: it is torn, or that of another step.
        OSError: the service fails.
    """
    try:
        record = parse_record(objects.get(f"{place(ref)}/{RECORD}"))
    except FileNotFoundError:
        return None
    if (record.stage, record.key) != (ref.stage, ref.key):
        raise InputError("that of another step")
    if not record.has_digests:
        raise InputError("without digests")
    return record


def read_failure(objects: Objects, key: str) -> Failure | None:
    """Return the recorded failure of a step; None if there is none, or it is torn."""
    try:
        failure = parse_failure(objects.get(f"failed/{key}/{FAILURE}"))
    except (FileNotFoundError, ValueError, InputError):
        return None
    return failure if failure.key == key else None


def failed(objects: Objects) -> set[str]:
    """Return the keys of all steps that have a recorded failure."""
    names = (entry.name.split("/") for entry in objects.listed("failed"))
    return {name[1] for name in names if name[2:] == [FAILURE]}


def download(
    objects: Objects, ref: Ref, folder: Path, known: Record | None = None
) -> list[Alteration]:
    """Write the record and the files of an artifact into a folder; return what is not as its step
    left it.

    A file that arrives altered is asked for once more: it may have changed on the way. known: the
    whole record, where it was asked for a moment ago.
    """
    try:
        content = as_json(known).encode() if known else b""
        if not known or parse_record(content).digest != known.digest:
            content = objects.get(f"{place(ref)}/{RECORD}")
        record = parse_record(content)
    except FileNotFoundError:
        return [Alteration(RECORD, "missing")]
    except (ValueError, InputError):
        return [Alteration(RECORD, "altered")]
    if not all(map(_is_inside, record.files)):
        return [Alteration(RECORD, "altered")]

    found = at_once(lambda name: download_file(objects, ref, record, name, folder), record.files)
    (folder / RECORD).write_bytes(content)
    return [one for one in found if one]


def download_file(
    objects: Objects, ref: Ref, record: Record, name: str, folder: Path
) -> Alteration | None:
    """Write one file of an artifact into a folder, as `download`."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        path.unlink(missing_ok=True)
        try:
            digest = objects.download(f"{make(ref, record)}/{name}", path)
        except FileNotFoundError:
            return Alteration(name, "missing")
        if digest == record.digests.get(name):
            return None
    return Alteration(name, "altered")


def _is_inside(name: str) -> bool:
    """Whether a file of this name lies in the folder of its artifact: anyone may write a record."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def upload(objects: Objects, ref: Ref, record: Record, folder: Path) -> bool:
    """Put the files of an artifact, and then its record; return whether it is this one's.

    The record of another make that is there already stays, unless it is torn. A log in which
    nothing is, is not put.
    """
    log = folder / LOG
    names = [*record.files, *([LOG] if log.exists() and log.stat().st_size else [])]
    at_once(lambda name: objects.put(f"{make(ref, record)}/{name}", folder / name), names)
    content, own = (folder / RECORD).read_bytes(), f"{place(ref)}/{RECORD}"
    if objects.put_if_absent(own, content) is not None:
        return True
    try:
        if read_record(objects, ref) is not None:
            return False
    except (ValueError, InputError):
        pass
    objects.put(own, content)
    return True


def remove(objects: Objects, ref: Ref) -> bool:
    """Remove an artifact, its record first; return whether there was one.

    Files of other makes stay: a node may be putting them right now.
    """
    own = f"{place(ref)}/{RECORD}"
    try:
        record = parse_record(objects.get(own))
    except FileNotFoundError:
        return False
    except (ValueError, InputError):
        record = None
    objects.delete([own])
    if record is not None:
        names = filter(_is_inside, (*record.files, LOG))
        objects.delete([f"{make(ref, record)}/{name}" for name in names])
    return True


def upload_failure(objects: Objects, key: str, folder: Path) -> None:
    """Put what a failed step has left in a store's folder `failed`, its failure last."""
    try:
        left = [name for name in os.listdir(folder) if name.startswith(f"{key}.")]
    except FileNotFoundError:  # no step has failed on this node
        return
    found = {name.removeprefix(f"{key}."): folder / name for name in left}
    names = {"json": FAILURE, "log": LOG}
    for suffix, path in sorted(found.items(), key=lambda one: one[0] == "json"):
        objects.put(f"failed/{key}/{names.get(suffix, f'kept/{suffix}')}", path)
        path.unlink(missing_ok=True)
