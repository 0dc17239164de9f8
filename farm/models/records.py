"""What the trials found, one JSON line each: a check that was cut short goes on from there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from farm import jsonfile
from farm.catalog import EXPORT_PACKAGES, RUNTIMES, SOURCES
from farm.decoded import decoded
from farm.errors import InputError
from farm.models import own
from farm.models.families import Family
from farm.plan import closure
from farm.plan.keys import canonical, step_key
from farm.plan.packages import version

EXPORTER = ("farm.sources.mmdet.graphs", "farm.sources.mmdet.patches", "farm.sources.onnx_files")
"""What writes graphs, with all that it imports; how a config and its weights are read is not."""

_FORWARDS = ("farm.sources.mmdet",)
"""The package of those modules, which runs nothing of theirs by itself."""

_FORM = 3
"""Of a trial's key; another one would forget every record."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one opset, kind of shapes and runtime came to. reason: None for the same detector.

    boxes: how many were compared, over all images; mask_iou: their masks' mean, of the worst
    batch; nodes: of the ONNX file.
    """

    opset: int
    kind: str
    runtime: str
    reason: str | None = None
    boxes: int = 0
    score_diff: float = 0.0
    box_diff_px: float = 0.0
    mask_iou: float | None = None
    nodes: int = 0
    export_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Record(Trial):
    """One trial of one model. key: of everything that decides its result; date: when it ran.

    refused: the model was, for `reason`, before any export. exporter: the digest of the code that
    wrote its graph; empty in records from before there was one.
    """

    key: str
    family: str
    config: str
    date: str
    versions: dict[str, str]
    refused: bool = False
    exporter: str = ""

    @property
    def current(self) -> bool:
        """Whether today's exporter wrote the graph that was tried."""
        return self.exporter == exporter()


def exporter() -> str:
    return closure.digest(EXPORTER, but=_FORWARDS)


def versions(runtime: str) -> dict[str, str]:
    """The packages that decide what a trial on `runtime` finds, by their versions alone: the table
    is of what people install under these."""
    packages = {*SOURCES["mmdet"].packages, *EXPORT_PACKAGES, *RUNTIMES[runtime].packages}
    return {package: version(package) for package in sorted(packages)}


def key(family: Family, opset: int, kind: str, runtime: str) -> str:
    """The trial's name: another version of a package is another trial. Another exporter is not:
    what an older one wrote stays on record, marked as such, until it is tried again."""
    values = {"family": canonical(family), "opset": opset, "kind": kind, "runtime": runtime}
    if Path(family.config).is_file():  # the versions tell of mmdet's own
        values["digest"] = own.digest(family.config)
    return step_key("trial", _FORM, values, versions(runtime))


class Records:
    """The lines of one file, by key; the newest of a key counts."""

    def __init__(self, path: Path) -> None:
        """Raises InputError where the file holds something else."""
        self.path = path
        self._by_key = {record.key: record for record in _read(path)}

    def __iter__(self) -> Iterator[Record]:
        return iter(self._by_key.values())

    def get(self, key: str) -> Record | None:
        return self._by_key.get(key)

    def add(self, record: Record) -> None:
        """Kept at once: an interrupt loses no finished trial."""
        self._by_key[record.key] = record
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(record)) + "\n")

    def tidy(self, keep: Iterable[str]) -> None:
        """Write the file again with these keys only, sorted: the committed form.

        It is read again before, since another run may have added to it.
        """
        self._by_key = {record.key: record for record in _read(self.path)}
        wanted = set(keep)
        records = [record for record in self if record.key in wanted]
        records.sort(key=lambda r: (r.family, r.opset, r.kind, r.runtime))
        self._by_key = {record.key: record for record in records}
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        part.write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))
        part.replace(self.path)


def _read(path: Path) -> Iterator[Record]:
    try:
        lines = jsonfile.read_bytes(path).splitlines()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputError(f"not records of `farm models`: {reason}", str(path)) from None
    names = {field.name for field in fields(Record)}
    for number, line in enumerate(lines, 1):
        try:
            values: dict[str, Any] = dict(jsonfile.parse(line))
            yield decoded(Record, {name: one for name, one in values.items() if name in names})
        except (ValueError, TypeError, InputError) as error:
            raise InputError(
                "not a record of `farm models`; delete the line, or give another --records",
                f"{path}:{number}",
            ) from error
