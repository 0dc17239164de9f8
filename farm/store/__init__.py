"""Store: content-addressed artifacts. A step is done when its folder is in its place, not before.

    <root>/<stage>/<first two digits of key>/<key>/record.json   a finished step and its files
    <root>/failed/<key>.json, .log                               a failure that will repeat itself
    <root>/tmp/<key>.<host>.<pid>.<time>/                        work under way
    <root>/elsewhere/<digest>/                                   of another machine; see `elsewhere`

A folder gets its place by one rename, so whatever is killed before has left nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from farm import atomic, jsonfile
from farm.errors import InputError
from farm.specs import Ref
from farm.store.figures import count, require, require_figures, size, text


@dataclass(frozen=True)
class Record:
    """What a step leaves beside its files.

    figures: the stage's own numbers, raw; verdicts are computed from them later.
    files: size in bytes of each file, so that a torn artifact is noticed.
    left_out: those that stayed on another machine when the record was brought from there.
    code: the digest of the farm's code that ran the step; empty in records from before there was
    one.
    """

    stage: str
    key: str
    label: str
    figures: dict[str, Any]
    inputs: dict[str, Any]
    toolchain: dict[str, str]
    seconds: float
    peak_host_bytes: int
    node: dict[str, Any]
    files: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    code: str = ""


@dataclass(frozen=True)
class Failure:
    """A failure that the same inputs will always give."""

    stage: str
    key: str
    label: str
    reason: str


class Store:
    """A folder of artifacts, shared by every node of the sweep."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().resolve()

    def path(self, ref: Ref) -> Path:
        return self.root / ref.stage / ref.key[:2] / ref.key

    def record(self, ref: Ref) -> Record | None:
        """The record of a step that was finished here; None if it is not there, its files are
        torn, or it was brought from another machine (those of earlier versions lie among ours:
        they name no machine)."""
        record = self.any_record(ref)
        foreign = record and (record.left_out or (record.node and "host" not in record.node))
        return None if foreign else record

    def any_record(self, ref: Ref) -> Record | None:
        """`record`, also of a step that was done elsewhere and whose large files stayed there."""
        folder = self.path(ref)
        try:
            record = read_record(folder / "record.json")
            whole = (record.stage, record.key) == (ref.stage, ref.key) and all(
                (folder / name).stat().st_size == size for name, size in record.files.items()
            )
        except (OSError, ValueError, InputError):
            return None
        return record if whole else None

    def refs(self, stage: str) -> Iterator[Ref]:
        """Every finished step of a stage."""
        for path in sorted((self.root / stage).glob("*/*/record.json")):
            yield Ref(stage, path.parent.name)

    def failure(self, key: str) -> Failure | None:
        """The recorded failure of a step; None if there is none, or it is torn."""
        try:
            failure = read_failure(self.root / "failed" / f"{key}.json")
        except (OSError, ValueError, InputError):
            return None
        return failure if failure.key == key else None

    def log_path(self, ref: Ref) -> Path:
        """The log of the step, whether it ended well or not."""
        done = self.path(ref) / "step.log"
        return done if done.exists() else self.root / "failed" / f"{ref.key}.log"

    def work_folder(self, key: str) -> Path:
        """A new folder for work under way, on the same file system as the finished artifacts."""
        mark = f"{key}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        folder = self.root / "tmp" / mark
        folder.mkdir(parents=True)
        return folder

    def publish(self, folder: Path, record: Record) -> None:
        """Give the folder its place. If another node was first, its artifact stays.

        Raises ValueError for a record that could not be read back.
        """
        files = {
            str(path.relative_to(folder)): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "step.log"
        }
        full = {**asdict(record), "files": files}
        written = json.dumps(full, indent=1, sort_keys=True)
        _require_readable(written)
        (folder / "record.json").write_text(written)
        for name in (*files, "record.json"):
            atomic.sync(folder / name)
        place = self.path(Ref(record.stage, record.key))
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists() and self.record(Ref(record.stage, record.key)) is None:
            shutil.rmtree(place, ignore_errors=True)  # torn: a whole one takes its place
        try:
            folder.rename(place)
        except OSError:
            if self.record(Ref(record.stage, record.key)) is None:
                raise
            shutil.rmtree(folder, ignore_errors=True)
        atomic.sync(place.parent)
        for left in (self.root / "failed").glob(f"{record.key}.*"):
            left.unlink(missing_ok=True)

    def record_failure(self, failure: Failure, log: Path | None, kept: Sequence[Path] = ()) -> None:
        """kept: files of the step's folder that say more of the failure; see `failed_file`."""
        self.keep_log(failure.key, log)
        for path in kept:
            path.replace(self.failed_file(failure.key, path.name))
        place = self.root / "failed" / f"{failure.key}.json"
        atomic.write(place, json.dumps(asdict(failure), indent=1))

    def failed_file(self, key: str, name: str) -> Path:
        """A file that was kept of a step that failed."""
        return self.root / "failed" / f"{key}.{name}"

    def keep_log(self, key: str, log: Path | None) -> None:
        """Keep the log of a step that did not end well."""
        place = self.root / "failed" / f"{key}.log"
        place.parent.mkdir(parents=True, exist_ok=True)
        if log and log.exists():
            log.replace(place)

    def forget(self, ref: Ref) -> None:
        """Drop a recorded failure, so that the step is tried again."""
        (self.root / "failed" / f"{ref.key}.json").unlink(missing_ok=True)

    def remove_stale_work(self) -> int:
        """Remove what killed processes of this machine left half-done; returns how many."""
        count = 0
        for folder in (self.root / "tmp").glob("*"):
            _, host, pid, _ = _parts(folder.name)
            if host == socket.gethostname() and not _alive(pid):
                shutil.rmtree(folder, ignore_errors=True)
                count += 1
        return count


def read_record(path: Path) -> Record:
    """Raises OSError, ValueError for what is no JSON, and InputError for what is no record."""
    return _record(jsonfile.read(path))


def _record(value: Any) -> Record:
    record = jsonfile.decode(Record, value)
    require_figures(record.stage, record.figures)
    require("seconds", record.seconds, size)
    for name, value in (("peak_host_bytes", record.peak_host_bytes), *record.files.items()):
        require(name, value, count)
    require("node.device", record.node.get("device"), text)
    return record


def _require_readable(record: str) -> None:
    try:
        _record(jsonfile.parse(record.encode()))
    except InputError as error:  # nothing that the user could mend
        raise ValueError(f"the record cannot be kept: {error}") from None


def read_failure(path: Path) -> Failure:
    """Raises OSError, ValueError for what is no JSON, and InputError for what is no failure."""
    return jsonfile.decode(Failure, jsonfile.read(path))


def _parts(name: str) -> tuple[str, str, int, str]:
    """key, host (may hold dots), pid and time of a work folder's name."""
    key, _, rest = name.partition(".")
    host, _, tail = rest.rpartition(".")
    host, _, pid = host.rpartition(".")
    return key, host, int(pid) if pid.isdigit() else -1, tail


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
