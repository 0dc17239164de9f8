"""The columns of the leaderboard: what each says, where its value comes from, how it is shown.

Another package adds a column by the entry point `farm.columns`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import farm
from farm.catalog import EXTRA_STAGES, OWN_STAGES, runtime_of
from farm.parts.registry import Lazy, outside, refused
from farm.results.column_kinds import (
    Column,
    agreement,
    axis,
    comparison,
    cost,
    figure,
    interval,
    key,
    latency,
    state,
)
from farm.store.figures import (
    AP_NAMES,
    DROP_NAMES,
    MACHINE,
    count,
    flag,
    fraction,
    number,
    positive,
    size,
    text,
)
from farm.store.records import HERE

if TYPE_CHECKING:
    from farm.results.cells import CellResults
    from farm.store import Record

__all__ = ["COLUMNS", "SCHEMA_VERSION", "Column", "Row"]

Row = dict[str, Any]

SCHEMA_VERSION = 8
"""The version of the files that are written; a new column raises it, and has it as `since`."""


def _opset(cell: CellResults) -> int | None:
    """The matrix's opset, or that of a ready file, which is known once it has been read."""
    return cell.planned.cell.opset or cell.figure("export", "opset")


def _by_class(kind: str, cell: CellResults) -> str | None:
    classes = cell.figure("evaluate", f"{kind}_ap_by_class")
    return None if classes is None else json.dumps(classes)


def _drop(figure: str, cell: CellResults) -> float | None:
    own, reference = cell.figure("evaluate", figure), cell.figure("reference", figure)
    return None if own is None or reference is None else reference - own


def _kept_fp32(cell: CellResults) -> int | None:
    kept = cell.figure("convert", "kept_fp32")
    return None if kept is None else len(kept)


def _onnx_bytes(cell: CellResults) -> int | None:
    stage = "convert" if "convert" in cell.records else "export"
    found: int | None = cell.figure(stage, "onnx_bytes")
    return found


def _peak_memory(cell: CellResults) -> int | None:
    """That of one request at a time; records of before it was told apart have the step's."""
    step = cell.records.get("measure")
    found: int | None = cell.figure("measure", "peak_host_bytes")
    return step.peak_host_bytes if found is None and step else found


def _last(cell: CellResults) -> Record | None:
    """The record of the engine's last step."""
    return cell.records.get("measure") or cell.records.get("build")


def _device(cell: CellResults) -> str | None:
    ahead = runtime_of(cell.planned.cell.runtime).compute_capabilities
    # An engine that was built ahead of time may run on another machine.
    record = cell.records.get("measure") if ahead else _last(cell)
    return record.node.get("device") if record else None


def _host(cell: CellResults) -> str | None:
    last = _last(cell)
    return last.node.get("host") if last else None


def _runtime_version(cell: CellResults) -> str | None:
    last, packages = _last(cell), runtime_of(cell.planned.cell.runtime).packages
    return last.toolchain.get(next(iter(packages), "")) if last else None


def _toolchain(cell: CellResults) -> str | None:
    records = (cell.records.get("export"), _last(cell))
    versions = {name: one for record in records if record for name, one in record.toolchain.items()}
    return "; ".join(f"{name} {version}" for name, version in sorted(versions.items())) or None


def _step_key(stage: str, since: int | None) -> Column:
    """A column for the key of the cell's step of this stage."""
    return Column(f"{stage}_key", key, "plan", lambda c: c.planned.steps.get(stage), since=since)


_SINCE = {"convert": 3, "compare": 7}
"""Since when there are the keys of stages that came later."""

_BOTH = "reference, evaluate"
_HEADINGS = {"box_ap": "box AP", "mask_ap": "mask AP"}

_OWN = (
    Column("cell", text, "matrix", lambda c: c.planned.cell.id, nullable=False),
    Column("sweep", text, "matrix", lambda c: c.sweep),
    axis("model", heading="model", nullable=False),
    Column("opset", count, "matrix, export", _opset, heading="op"),
    axis("shape", heading="shape", nullable=False),
    axis("postprocess", heading="post", since=2, before="graph"),
    axis("precision", heading="prec", nullable=False),
    axis("runtime", heading="runtime", nullable=False),
    axis("workspace_bytes", count, unit="bytes"),
    axis("target"),
    Column(
        "status", state, "all", lambda c: c.outcome.status.value, heading="status", nullable=False
    ),
    Column("failed_stage", text, "all", lambda c: c.outcome.failed_stage),
    Column("reason", text, "all", lambda c: c.outcome.reason),
    Column("failure_class", text, "all", lambda c: c.outcome.failure_class, since=6),
    *(
        figure("evaluate", name, fraction, heading=_HEADINGS.get(name, ""), form="{:.4f}")
        for name in AP_NAMES
    ),
    *(
        Column(f"{kind}_ap_by_class", text, "evaluate", partial(_by_class, kind), since=5)
        for kind in ("box", "mask")
    ),
    figure("reference", "box_ap", fraction, "box_ap_reference"),
    Column("box_ap_drop", number, _BOTH, partial(_drop, "box_ap"), heading="drop", form="{:+.4f}"),
    figure("reference", "mask_ap", fraction, "mask_ap_reference"),
    Column("mask_ap_drop", number, _BOTH, partial(_drop, "mask_ap")),
    *(figure("evaluate", name, number, since=7) for name in DROP_NAMES),
    figure("evaluate", "voc_map", fraction, since=8, heading="VOC mAP", form="{:.4f}"),
    figure("reference", "voc_map", fraction, "voc_map_reference", since=8),
    Column("voc_map_drop", number, _BOTH, partial(_drop, "voc_map"), since=8),
    agreement("matched_fraction", fraction),
    agreement("max_score_diff"),
    agreement("max_box_diff_px", unit="pixels"),
    agreement("min_mask_iou"),
    agreement("max_abs_diff", since=2),
    agreement("max_rel_diff", since=2),
    agreement("cosine", heading="cosine", form="{:.4f}", since=2),
    comparison("rank", count, heading="rank", form="{:d}"),
    *interval("vs_best"),
    latency("latency_p50_ms", positive, unit="ms", heading="p50 ms", form="{:.2f}"),
    latency("latency_p90_ms", size, unit="ms"),
    *(
        latency(f"latency_{name}_ms", number, unit="ms")
        for name in ("p95", "p99", "mean", "min")
    ),
    Column("measured_at", text, "measure, compare", lambda c: c.measured_at, unit="UTC", since=7),
    Column("latency_source", text, "measure, compare", lambda c: c.latency_source, since=7),
    comparison("rounds", count, unit="blocks"),
    Column("order_seed", count, "compare", lambda c: c.figure("compare", "order_seed"), since=7),
    figure("measure", "device_p50_ms", number, unit="ms", since=3),
    figure("measure", "host_p50_ms", number, unit="ms", since=7),
    figure("measure", "latency_includes", text, since=7),
    figure("measure", "cuda_graph", flag, since=3),
    latency("latency_cov", size),
    latency("samples", count),
    figure(
        "measure", "throughput_per_s", positive,
        unit="images/s", heading="img/s", form="{:.0f}",
    ),
    figure("measure", "throughput_batch", count, since=7),
    figure("measure", "throughput_streams", count, since=7),
    figure("measure", "serial_images_per_s", positive, unit="images/s", since=7),
    figure("measure", "server_rate_per_s", size, unit="requests/s", since=7),
    figure("measure", "server_p99_ms", positive, unit="ms", since=7),
    figure("measure", "server_bound_ms", positive, unit="ms", since=7),
    figure("measure", "server_streams", count, since=7),
    latency("stable", flag),
    figure("measure", "threads", count),
    figure("measure", "batch", count),
    figure("measure", "input_shape", text),
    *(figure("measure", name, kind, since=7) for name, kind in MACHINE.items()),
    figure("evaluate", "images_per_s", number, "evaluate_images_per_s", unit="images/s"),
    figure("evaluate", "images", count, "evaluate_images", since=7),
    figure("evaluate", "stopped_early", flag, since=7),
    cost("export", "seconds", "export_s", number, unit="s"),
    cost("convert", "seconds", "convert_s", number, unit="s", since=3),
    Column("kept_fp32", count, "convert", _kept_fp32, unit="layers", since=3),
    figure("build", "build_s", number, unit="s"),
    Column("onnx_bytes", count, "export, convert", _onnx_bytes, unit="bytes"),
    figure("build", "engine_bytes", count, unit="bytes"),
    Column("peak_host_bytes", count, "measure", _peak_memory, unit="bytes"),
    Column("device", text, "build, measure", _device),
    figure("build", "fallback", text, since=3),
    Column("runtime_version", text, "build, measure", _runtime_version),
    Column("toolchain", text, "export, build, measure", _toolchain),
)  # fmt: skip

_OTHERS = (
    Column("host", text, "build, measure", _host, since=8),
    Column("dataset", key, "plan", lambda c: c.dataset, since=8),
    Column("farm_version", text, "plan", lambda c: farm.__version__, since=8),
    Column(
        "origin", text, "import", lambda c: c.origin,
        heading="from", form="{:.4}", since=4, before=HERE, nullable=False,
    ),
    *interval("speedup_vs_fp32", since=3, heading="x fp32", form="{:.2f}"),
)  # fmt: skip


def _all() -> dict[str, Column]:
    """Collect the farm's columns and those of other packages.

    Raises InputError for an entry point that cannot be loaded, or is no column with a new name.
    """
    own_keys = (_step_key(stage, _SINCE.get(stage, 1)) for stage in OWN_STAGES)
    keys = (_step_key(stage, since=None) for stage in EXTRA_STAGES)
    found = {one.name: one for one in (*_OWN, *own_keys, *_OTHERS, *keys)}
    for point, column in outside(_GROUP, Column):
        if column.name in found:
            raise refused(point, _GROUP, Column, column)
        # Files that were written without the package must be readable with it.
        found[column.name] = replace(column, since=None, nullable=True)
    return found


_GROUP = "farm.columns"
COLUMNS = Lazy(_all)
"""By name, in the order of the file."""
