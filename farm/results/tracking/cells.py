"""The run of a cell: its axes as params, its figures as metrics, its state and places as tags."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from farm.catalog import OWN_STAGES
from farm.results.names import outer
from farm.results.tracking.runs import DIGEST, NOTE, ONNX, Content, Dataset, Engine

if TYPE_CHECKING:
    from farm.results.columns import Row
    from farm.results.tracking.evidence import Evidence

AXES = (
    "model", "opset", "shape", "postprocess", "precision", "runtime", "workspace_bytes", "target",
)  # fmt: skip
_PARAMS = (*AXES, "batch", "threads")

METRICS = (
    "box_ap", "box_ap_drop", "mask_ap", "mask_ap_drop",
    "latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "latency_cov", "rank", "vs_best",
    "speedup_vs_fp32", "throughput_per_s", "throughput_batch", "throughput_streams",
    "server_rate_per_s", "server_p99_ms", "device_p50_ms", "stable", "matched_fraction",
    "max_score_diff", "max_box_diff_px", "min_mask_iou", "max_rel_diff", "cosine",
    "engine_bytes", "onnx_bytes", "peak_host_bytes", "build_s", "samples",
)  # fmt: skip
"""The columns that are metrics, by the names that rows have; MLflow has them by the outer ones, as
the leaderboard's files do, which have the other columns, too."""

_TAGS = (
    "status", "failed_stage", "failure_class", "device", "runtime_version", "origin", "measured_at",
    "latency_source",
)  # fmt: skip

STATES = {"ok": "FINISHED", "failed": "FAILED", "pending": "KILLED", "skipped": "KILLED"}
"""The status of a run by that of its cell: MLflow has none for what was not run."""

_DRIVER = re.compile(r"driver ([\w.]+)")
"""In the name of a GPU as a device, `NVIDIA H200 (9.0, driver 580)`."""

VERSION = 3
"""Of what is logged: a higher one logs every cell again. Runs that cannot take what it logs are
replaced."""

_LONGEST = 500
"""Characters of a tag; a reason is in the note in full."""

_LONGEST_NOTE = 5000


def digest_of(row: Row, evidence: Evidence, name: str, copies: bool) -> str:
    """Return the digest of what is logged of a cell. copies: as of `of_cell`."""
    found = [VERSION, row, asdict(evidence), name, *["with its ONNX file"] * copies]
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def of_cell(
    row: Row,
    evidence: Evidence,
    name: str,
    dataset: Dataset | None = None,
    files: Mapping[str, Path | str] | None = None,
    source: Mapping[str, str] | None = None,
    copies: bool = False,
) -> Content:
    """Return the content of a cell's run.

    files: its artifacts; its ONNX file goes to its engine, where it has one. source: MLflow's own
    tags, the same for all cells. copies: the matrix asks for ONNX files among the artifacts.
    """
    # Children have the sweep's name too, or the UI's filter for it would hide them.
    params = {"sweep": row["sweep"], **_texts(row, _PARAMS)}
    files, engine = dict(files or {}), _engine(row, evidence)
    if engine and (onnx := files.pop(ONNX, None)):
        engine = replace(engine, files={ONNX: onnx})
    digest = digest_of(row, evidence, name, copies)
    return Content(
        row["cell"],
        name,
        params,
        {outer(one): float(row[one]) for one in METRICS if row.get(one) is not None},
        {**_tags(row, evidence), **(source or {}), DIGEST: digest},
        STATES[row["status"]],
        _milliseconds(evidence.began),
        _milliseconds(evidence.ended),
        dataset,
        engine,
        files,
    )


def _texts(row: Row, names: tuple[str, ...]) -> dict[str, str]:
    return {name: str(row[name]) for name in names if row.get(name) is not None}


def _tags(row: Row, evidence: Evidence) -> dict[str, str]:
    """What is known of a cell beside its axes and figures; the keys of the store in one tag."""
    keys = {stage: row.get(f"{stage}_key") for stage in OWN_STAGES}
    found = {
        "cell": row["cell"],
        "kind": "cell",
        **_texts(row, _TAGS),
        **evidence.links,
        "keys": json.dumps({stage: key for stage, key in keys.items() if key}),
    }
    if row["reason"]:
        found["reason"] = row["reason"]
    tags = {
        f"farm.{name}": text[: _LONGEST if name != "keys" else None] for name, text in found.items()
    }
    return {**tags, **({NOTE: note} if (note := _note(row)) else {})}


def _note(row: Row) -> str:
    """The description of a run that is not OK: what has happened, as Markdown."""
    if not row["reason"]:
        return ""
    at = f" at `{row['failed_stage']}`" if row["failed_stage"] else ""
    reason = row["reason"].replace("```", "'''")[:_LONGEST_NOTE]
    log = "\n\nThe log of the step is among the artifacts, where one was kept." if at else ""
    return f"**{row['status']}**{at}\n\n```\n{reason}\n```{log}"


def _engine(row: Row, evidence: Evidence) -> Engine | None:
    """The cell's engine as a model; None where none was built here."""
    where = evidence.links.get("engine")
    if where is None or evidence.sha256 is None:
        return None
    tags = {
        "place": where,
        "sha256": evidence.sha256,
        "cell": row["cell"],
        "sweep": row["sweep"],
        **_texts(row, ("device", "runtime_version", "toolchain")),
    }
    if driver := _DRIVER.search(row["device"] or ""):
        tags["driver"] = driver[1]
    # MLflow allows no dots in the names of models.
    name = row["cell"].translate(str.maketrans("./:%\"'", "------"))
    return Engine(name, _texts(row, AXES), {f"farm.{key}": text for key, text in tags.items()})


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
