"""Records of the trials, in lines of JSON: a run that was interrupted goes on from there.

A trial is added as a line of its own; `Records.tidy` writes a line for all trials that have the
family, the date, the versions and the exporter in common.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from farm.catalog import OWN_STAGES, RUNTIMES, SOURCES
from farm.errors import InputError
from farm.files import atomic, jsonfile
from farm.models import own_config
from farm.models.families import Family
from farm.plan.content import closure
from farm.plan.content.packages import version
from farm.plan.keys import canonical, step_key

EXPORTER = ("farm.sources.mmdet.graphs", "farm.sources.mmdet.patches", "farm.sources.onnx_files")
"""The modules that write graphs, with all that they import; reading configs is not part of it."""

_FORWARDS = ("farm.sources.mmdet",)
"""The package of those modules: what its `__init__` imports is not part of the exporter."""

SAME_EXPORTERS = Path(__file__).with_name("exporters.json")
"""Exporters that differ only in names or files; tools/compare_exports.py shows that."""

_SHARED = ("family", "config", "date", "versions", "exporter", "refused")
"""The fields that the trials of a line of the committed form share."""

_FORM = 3
"""The version of a trial's key; with another one no record is found again."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The result of one opset, kind of shapes and runtime. reason: None for the same detector.

    temporary: the reason is one of the moment, such as too little memory or room on the disk.
    boxes: how many were compared, over all images. mask_iou: the mean IoU of their masks, in the
    worst batch. nodes: how many the ONNX file has.
    """

    opset: int
    kind: str
    runtime: str
    reason: str | None = None
    temporary: bool = False
    boxes: int = 0
    score_diff: float = 0.0
    box_diff_px: float = 0.0
    mask_iou: float | None = None
    nodes: int = 0
    export_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Record(Trial):
    """One trial of one model. key: the digest of all that decides its result. date: when it ran.

    refused: the model was refused for `reason` before any export. exporter: the digest of the code
    that wrote its graph; empty in older records.
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
        """Whether this exporter, or one that writes the same files, wrote the graph."""
        return self.exporter in same_exporters(exporter())


def exporter() -> str:
    """Return the digest of the code that writes graphs."""
    return closure.digest(EXPORTER, but=_FORWARDS)


@cache
def same_exporters(digest: str, path: Path = SAME_EXPORTERS) -> frozenset[str]:
    """Return this exporter and those that are known to write the same files, byte for byte."""
    groups = [frozenset(group["exporters"]) for group in jsonfile.read(path)]
    return frozenset({digest}).union(*(group for group in groups if digest in group))


def versions(runtime: str) -> dict[str, str]:
    """Return the packages that decide the result of a trial on `runtime`, with their versions."""
    export = OWN_STAGES["export"].packages
    packages = {*SOURCES["mmdet"].packages, *export, *RUNTIMES[runtime].packages}
    return {package: version(package) for package in sorted(packages)}


def key(family: Family, opset: int, kind: str, runtime: str) -> str:
    """Return the trial's key: another version of a package is another trial.

    Another exporter is not: results of an older one stay on record, marked as such, until the trial
    is run again.

    Raises:
        InputError: the family's own config is not there.
    """
    values = {"family": canonical(family), "opset": opset, "kind": kind, "runtime": runtime}
    if Path(family.config).is_file():  # mmdet's own are known by its version
        values["digest"] = own_config.digest(family.config)
    return step_key("trial", _FORM, values, versions(runtime))


class Records:
    """The records of one file, by key; the newest of a key counts."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises InputError if it has anything but records."""
        self.path = path
        self._by_key = {record.key: record for record in _read(path)}

    def __iter__(self) -> Iterator[Record]:
        return iter(self._by_key.values())

    def get(self, key: str) -> Record | None:
        """Return the record of this key, if there is one."""
        return self._by_key.get(key)

    def add(self, record: Record) -> None:
        """Add a record, and write it at once: an interrupt loses no record."""
        self._by_key[record.key] = record
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(record)) + "\n")

    def tidy(self, keep: Iterable[str]) -> None:
        """Write the file in its committed form: these keys only, sorted, figures to four digits.

        The file is read again first, since another run may have added to it.
        """
        self._by_key = {record.key: record for record in _read(self.path)}
        wanted = set(keep)
        records = [record for record in self if record.key in wanted]
        records.sort(key=lambda r: (r.family, r.runtime, r.exporter, r.date, r.opset, r.kind))
        groups = itertools.groupby(records, lambda record: _values(record, _SHARED))
        lines = [json.dumps(_tidy_line(*group), separators=(",", ":")) for group in groups]
        atomic.write(self.path, "".join(f"{line}\n" for line in lines))
        self._by_key = {record.key: record for record in _read(self.path)}


def _values(record: Record, names: Iterable[str]) -> list[Any]:
    found = (getattr(record, name) for name in names)
    return [float(f"{value:.4g}") if isinstance(value, float) else value for value in found]


def _tidy_line(shared: list[Any], records: Iterable[Record]) -> dict[str, Any]:
    columns = [field.name for field in fields(Record) if field.name not in _SHARED]
    trials = [_values(record, columns) for record in records]
    return {**dict(zip(_SHARED, shared, strict=True)), "columns": columns, "trials": trials}


def _trials(line: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the values of each record of a line, tidy or not. Raises ValueError, TypeError."""
    if "trials" not in line:
        yield line
        return
    shared = {name: line.get(name) for name in _SHARED}
    for trial in line["trials"]:
        yield shared | dict(zip(line["columns"], trial, strict=True))


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
            for values in _trials(dict(jsonfile.parse(line))):
                known = {name: one for name, one in values.items() if name in names}
                yield jsonfile.decode(Record, known)
        except (ValueError, TypeError, KeyError, InputError) as error:
            raise InputError(
                "not a record of `farm models`; delete the line, or give another --records",
                f"{path}:{number}",
            ) from error
