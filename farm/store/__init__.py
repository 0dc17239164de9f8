"""Store: content-addressed artifacts. A step is done as soon as its folder has its final name.

    <root>/<stage>/<first two digits of key>/<key>/record.json   a finished step and its files
    <root>/failed/<key>.json, .log                               a failure that will repeat itself
    <root>/tmp/<key>.<host>.<pid>.<time>/                        a running step
    <root>/elsewhere/<digest>/                                   imported records; see `imports`

A folder gets its final name by one rename, so a killed process leaves no partial artifact.
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
    """What is kept of a finished step beside its files.

    figures: the stage's own numbers, raw; verdicts are computed from them later.
    files: the size in bytes of each file, by which a torn artifact is found.
    left_out: the files of an imported record that have stayed on the other machine.
    code: the digest of the farm's code that ran the step; empty in the oldest records.
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
    """A failure that the same inputs will always give.

    kind: its class, a `FailureKind`; empty in the oldest files. limit: the limit that the step has
    reached, in seconds or bytes; a run with a higher one tries the step again.
    """

    stage: str
    key: str
    label: str
    reason: str
    kind: str = ""
    limit: float = 0.0


class Store:
    """A folder of artifacts, shared by every node of the sweep."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().resolve()

    def path(self, ref: Ref) -> Path:
        """Return the folder of the step's artifact, which need not exist."""
        return self.root / ref.stage / ref.key[:2] / ref.key

    def record(self, ref: Ref) -> Record | None:
        """Return the record of a step that was done here, else None.

        It is None too if its files are torn, or if it was imported: records that earlier versions
        imported stand among the others, and name no host.
        """
        record = self.any_record(ref)
        foreign = record and (record.left_out or (record.node and "host" not in record.node))
        return None if foreign else record

    def any_record(self, ref: Ref) -> Record | None:
        """Return the record as `record` does, also of a step that was done on another machine."""
        folder = self.path(ref)
        try:
            record = read_record(folder / "record.json")
            complete = (record.stage, record.key) == (ref.stage, ref.key) and all(
                (folder / name).stat().st_size == size for name, size in record.files.items()
            )
        except (OSError, ValueError, InputError):
            return None
        return record if complete else None

    def refs(self, stage: str) -> Iterator[Ref]:
        """Yield every finished step of a stage."""
        for path in sorted((self.root / stage).glob("*/*/record.json")):
            yield Ref(stage, path.parent.name)

    def failure(self, key: str) -> Failure | None:
        """Return the recorded failure of a step; None if there is none, or its file is torn."""
        try:
            failure = read_failure(self.root / "failed" / f"{key}.json")
        except (OSError, ValueError, InputError):
            return None
        return failure if failure.key == key else None

    def log_path(self, ref: Ref) -> Path:
        """Return the path of the step's log, whether it ended well or not."""
        done = self.path(ref) / "step.log"
        return done if done.exists() else self.root / "failed" / f"{ref.key}.log"

    def work_folder(self, key: str) -> Path:
        """Make a folder for a running step, on the file system of the artifacts. Raises OSError."""
        mark = f"{key}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        folder = self.root / "tmp" / mark
        folder.mkdir(parents=True)
        return folder

    def publish(self, folder: Path, record: Record) -> None:
        """Make a working folder the artifact of its step. If another node was faster, its artifact
        stays.

        Raises:
            ValueError: the record could not be read back.
            OSError: the artifact cannot be written.
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
        ref = Ref(record.stage, record.key)
        artifact = self.path(ref)
        artifact.parent.mkdir(parents=True, exist_ok=True)
        if artifact.exists() and self.record(ref) is None:
            shutil.rmtree(artifact, ignore_errors=True)  # it is torn
        try:
            folder.rename(artifact)
        except OSError:
            if self.record(ref) is None:
                raise
            shutil.rmtree(folder, ignore_errors=True)
        atomic.sync(artifact.parent)
        for old in (self.root / "failed").glob(f"{record.key}.*"):
            old.unlink(missing_ok=True)

    def record_failure(self, failure: Failure, log: Path | None, kept: Sequence[Path] = ()) -> None:
        """Record a failure, with its log. Raises OSError.

        kept: files of the step's folder that explain the failure; see `failed_file`.
        """
        self.keep_log(failure.key, log)
        for path in kept:
            path.replace(self.failed_file(failure.key, path.name))
        path = self.root / "failed" / f"{failure.key}.json"
        atomic.write(path, json.dumps(asdict(failure), indent=1))

    def failed_file(self, key: str, name: str) -> Path:
        """Return the path of a file that was kept of a failed step."""
        return self.root / "failed" / f"{key}.{name}"

    def keep_log(self, key: str, log: Path | None) -> None:
        """Keep the log of a step that did not end well. Raises OSError."""
        path = self.root / "failed" / f"{key}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        if log and log.exists():
            log.replace(path)

    def forget(self, ref: Ref) -> None:
        """Delete a recorded failure, so that the step is tried again."""
        (self.root / "failed" / f"{ref.key}.json").unlink(missing_ok=True)


def warm_up() -> None:
    """Prepare the reading of records, which takes a while the first time."""
    jsonfile.adapter(Record)
    jsonfile.adapter(Failure)


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no JSON.
        InputError: it is no record.
    """
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
    except InputError as error:  # which the user could not correct
        raise ValueError(f"the record cannot be kept: {error}") from None


def read_failure(path: Path) -> Failure:
    """Raises OSError, ValueError for what is no JSON, and InputError for what is no failure."""
    return jsonfile.decode(Failure, jsonfile.read(path))
