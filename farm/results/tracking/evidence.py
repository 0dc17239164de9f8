"""What the store knows of a cell beside its row: when its work was done, its files, its log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from farm.catalog import OWN_STAGES
from farm.results.kept.files import places
from farm.results.tracking.runs import Dataset
from farm.specs import Ref
from farm.store.records import HERE

if TYPE_CHECKING:
    from pathlib import Path

    from farm.results.columns import Row
    from farm.store import Record, Store

_ONNX, _MOST_ONNX_BYTES = "model.onnx", 50 << 20
"""Larger ones stay in the store alone."""

_DIGITS = 32
"""Of a data set's digest: MLflow keeps 36 characters."""


@dataclass(frozen=True)
class Evidence:
    """What is known of a cell from the store.

    links: where its ONNX file and engine lie, by name. began, ended: of the work on its engine, in
    seconds since 1970. sha256: of the engine's file; of the list of its files where it has several.
    """

    links: Mapping[str, str] = field(default_factory=dict)
    began: float | None = None
    ended: float | None = None
    sha256: str | None = None


def evidence_of(row: Row, store: Store) -> Evidence:
    """Return what the store knows of a cell. What another machine did, it does not know."""
    if row["origin"] != HERE:
        return Evidence()
    began, ended = _times(row, store)
    return Evidence(places(row, store), began, ended, _sha256(row, store))


def _times(row: Row, store: Store) -> tuple[float | None, float | None]:
    """When the first step of the cell's engine began, and when the last one ended."""
    ends = [(one.ended - one.seconds, one.ended) for one in _own(row, store) if one.ended]
    if (stage := row["failed_stage"]) and (key := row.get(f"{stage}_key")):
        failure = store.failure(key)
        if failure and failure.ended:
            ends.append((failure.ended - failure.seconds, failure.ended))
    if not ends:
        return None, None
    return min(began for began, _ in ends), max(ended for _, ended in ends)


def _own(row: Row, store: Store) -> Iterator[Record]:
    """The records of the steps that run the cell's engine alone."""
    for name, stage in OWN_STAGES.items():
        key = row.get(f"{name}_key")
        if (
            key
            and stage.on_target
            and not stage.joint
            and (found := store.any_record(Ref(name, key)))
        ):
            yield found


def _sha256(row: Row, store: Store) -> str | None:
    key = row["build_key"]
    record = store.any_record(Ref("build", key)) if key else None
    if record is None:
        return None
    digests = [digest for name, digest in record.digests.items() if name.startswith("engine")]
    return digests[0] if len(digests) == 1 else record.content


def dataset_of(row: Row, store: Store) -> Dataset | None:
    """Return the data set of a cell, by the inputs of its `prepare`; None where that is not there.

    store: one that keeps the inputs of records.
    """
    key = row.get("prepare_key")
    record = store.any_record(Ref("prepare", key)) if key else None
    if record is None or not isinstance(found := record.inputs.get("dataset"), dict):
        return None
    source = json.dumps(found, sort_keys=True)  # its digest is MLflow's name of the data set
    digest = hashlib.sha256(source.encode()).hexdigest()[:_DIGITS]
    kind = str(found.get("type") or "data set")
    return Dataset(f"{kind}, {record.figures.get('images')} images", digest, source)


def small_onnx_of(row: Row, store: Store) -> Path | None:
    """Return a cell's ONNX file; None where there is none, or one of more than 50 MiB."""
    stage = "convert" if row["convert_key"] else "export"
    key = row[f"{stage}_key"]
    record = store.any_record(Ref(stage, key)) if key and row["origin"] == HERE else None
    size = record.files.get(_ONNX) if record else None
    if not size or size > _MOST_ONNX_BYTES:
        return None
    return store.files(Ref(stage, key)) / _ONNX


def log_of(row: Row, store: Store) -> Path | None:
    """Return the log of the step that a cell failed at; None where there is none."""
    stage = row["failed_stage"]
    key = row.get(f"{stage}_key") if stage else None
    path = store.log_path(Ref(stage, key)) if key else None
    return path if path and path.is_file() else None
