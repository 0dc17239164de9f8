"""Records and failures as files: what each has, and the digests by which a change is noticed.

A record has the sha256 of each file of its artifact and one over itself, so that neither a file nor
a figure can change unnoticed. The digests find damage and mistakes; whoever writes new digests,
too, is not found out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from farm.errors import InputError
from farm.files import jsonfile
from farm.specs import ModelFacts
from farm.store.figures import count, require, require_figures, size, text, texts

PEAK_GPU = "peak_gpu_bytes"
"""The step's peak of GPU memory, beside what its node is: a field of its own would be a record that
earlier versions cannot read."""


@dataclass(frozen=True)
class Record:
    """What is kept of a finished step beside its files.

    figures: the stage's own numbers, raw; verdicts are computed from them later.
    files: the size in bytes of each file, by which a torn artifact is found at once.
    left_out: the files of an imported record that have stayed on the other machine.
    code: the digest of the farm's code that ran the step; empty in the oldest records.
    digests: the sha256 of each file, also of those left out; empty in records of earlier versions.
    parents: the digest of the files of each artifact that the step read, by `<stage>/<key>`.
    ended: when the step ended, by the clock of its node, in seconds since 1970; 0 in records of
    earlier versions.
    digest: the sha256 of the record without this field; empty where it has not been written yet,
    and in records of earlier versions.
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
    digests: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    ended: float = 0.0

    @property
    def foreign(self) -> bool:
        """Whether the step was done on another machine: records that earlier versions imported
        stand among a store's own, and name no host."""
        return bool(self.left_out or (self.node and "host" not in self.node))

    @property
    def peak_gpu_bytes(self) -> int:
        """The step's peak of GPU memory; 0 where it was not found."""
        found = self.node.get(PEAK_GPU)
        return found if type(found) is int and found > 0 else 0

    @property
    def has_digests(self) -> bool:
        """Whether it has its own digest and that of every file."""
        return bool(self.digest) and set(self.files) <= set(self.digests)

    @property
    def content(self) -> str:
        """The digest of all its files, by which two makes of one artifact are told apart."""
        return _sha256([[name, self.digests.get(name)] for name in sorted(self.files)])


@dataclass(frozen=True)
class Failure:
    """A failure that the same inputs will always give.

    kind: its class, a `FailureKind`; empty in the oldest files. limit: the limit that the step has
    reached, in seconds or bytes; a run with a higher one tries the step again. seconds: how long
    it ran. ended: as of `Record`.
    """

    stage: str
    key: str
    label: str
    reason: str
    kind: str = ""
    limit: float = 0.0
    seconds: float = 0.0
    ended: float = 0.0


def as_json(record: Record) -> str:
    """Return the record as the text of its file, with its own digest.

    Raises:
        ValueError: it could not be read back.
    """
    own = {one.name: getattr(record, one.name) for one in fields(record)}
    try:
        value = jsonfile.parse(json.dumps(own, default=asdict).encode())
        _decode(value)
    except InputError as error:  # which the user could not correct
        raise ValueError(f"the record cannot be kept: {error}") from None
    del value["digest"]
    encoded = {name: json.dumps(value[name], sort_keys=True) for name in sorted(value)}
    encoded["digest"] = f'"{_sha256_of_fields(encoded)}"'
    # A line for each field, which is as legible as an indent, and far cheaper.
    lines = (f' "{name}": {encoded[name]}' for name in sorted(encoded))
    return "{\n" + ",\n".join(lines) + "\n}"


def read_record(path: Path) -> Record:
    """Read a record. One of an earlier version has no digest that could be compared.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no JSON.
        InputError: it is no record, or was changed.
    """
    return parse_record(jsonfile.read_bytes(path))


def parse_record(data: bytes) -> Record:
    """Return the record of a file's content. Raises ValueError and InputError as `read_record`."""
    value = jsonfile.parse(data)
    record = _decode(value)
    if record.digest and record.digest != digest_of(value):
        raise InputError("changed: its sha256 is not the one that it states")
    return record


def digest_of(record: dict[str, Any]) -> str:
    """Return the sha256 of a record, parsed from JSON, without its own `digest`."""
    return _sha256({name: value for name, value in record.items() if name != "digest"})


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _sha256_of_fields(encoded: Mapping[str, str]) -> str:
    """The `_sha256` of a mapping whose values are encoded already, in the order of their names."""
    text = ", ".join(f'"{name}": {value}' for name, value in encoded.items())
    return hashlib.sha256(f"{{{text}}}".encode()).hexdigest()


def _decode(value: Any) -> Record:
    record = jsonfile.decode(Record, value)
    if record.stage == "check":
        model_facts(record.figures)
    require_figures(record.stage, record.figures)
    require("seconds", record.seconds, size)
    require("ended", record.ended, size)
    for name, value in (("peak_host_bytes", record.peak_host_bytes), *record.files.items()):
        require(name, value, count)
    require("node.device", record.node.get("device"), text)
    return record


def model_facts(figures: Mapping[str, Any]) -> ModelFacts:
    """Return what `check` found, from its figures; its notes on the data sets are for people alone.

    Raises:
        InputError: a figure is missing, unknown or of another kind.
    """
    require("check.notes", figures.get("notes"), texts)
    return jsonfile.decode(ModelFacts, {name: v for name, v in figures.items() if name != "notes"})


def read_failure(path: Path) -> Failure:
    """Raises OSError, ValueError for what is no JSON, and InputError for what is no failure."""
    return parse_failure(jsonfile.read_bytes(path))


def parse_failure(data: bytes) -> Failure:
    """Return the failure of a file's content. Raises ValueError and InputError."""
    return jsonfile.decode(Failure, jsonfile.parse(data))


def warm_up() -> None:
    """Prepare the reading of records, which takes a while the first time."""
    jsonfile.adapter(Record)
    jsonfile.adapter(Failure)


HERE = "here"
"""The origin of the records that are not imported."""


@dataclass(frozen=True)
class Origin:
    """Where an import comes from.

    name: of the archive or folder. digest: the sha256 of all that was imported from it. imported:
    when, in seconds since 1970.
    """

    name: str
    digest: str
    imported: float

    def __str__(self) -> str:
        """Return the leaderboard's name for it: `1a2b3c4d5e6f records.tar.gz`."""
        return f"{self.digest[:12]} {self.name}"
