"""One row per cell, made from the plan and the store's records alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from farm.catalog import RUNTIMES
from farm.inputs import Ref
from farm.matrix.schema import LimitsSpec, VerifySpec
from farm.plan import STAGES, Plan, PlannedCell
from farm.results.verdict import Agreement, RawAgreement, judge, judge_raw
from farm.store import Record, Store, elsewhere
from farm.store.elsewhere import HERE, Imported
from farm.store.figures import AP_NAMES

Row = dict[str, Any]

_BOXES_AGREE = ("matched_fraction", "max_score_diff", "max_box_diff_px", "min_mask_iou")
_RAW_AGREE = ("max_abs_diff", "max_rel_diff", "cosine")
_SPEED = (
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "latency_mean_ms",
    "latency_min_ms",
    "device_p50_ms",
    "cuda_graph",
    "latency_cov",
    "samples",
    "throughput_per_s",
    "stable",
    "threads",
    "batch",
    "input_shape",
)


def make_rows(
    plan: Plan,
    store: Store,
    limits: VerifySpec,
    reasons: Mapping[str, str],
    undone: Mapping[str, str] | None = None,
) -> list[Row]:
    """A cell of which nothing was run here has an import's figures, if there are any; a row's
    `origin` says so.

    reasons: why a step (by key) did not end well, where the store has no record of it.
    undone: why one was not begun.
    """
    whys, others = Whys(reasons, undone or {}), elsewhere.imports(store)
    rows = []
    for cell in plan.cells:
        row = _row(plan, cell, store, limits, whys)
        if row["status"] == "pending" and not _begun(cell, store):
            row = next(_done_elsewhere(plan, cell, others, limits), row)
        rows.append(row)
    return _with_speedups(rows)


def imported_rows(
    plan: Plan, store: Store, digest: str, limits: VerifySpec, reasons: Mapping[str, str]
) -> list[Row]:
    """The rows of one import alone, by its digest."""
    (one,) = (one for one in elsewhere.imports(store) if one.origin.digest == digest)
    whys, origin = Whys(reasons, {}), str(one.origin)
    return _with_speedups([_row(plan, c, one.store, limits, whys, origin) for c in plan.cells])


def _done_elsewhere(
    plan: Plan, cell: PlannedCell, others: Sequence[Imported], limits: VerifySpec
) -> Iterator[Row]:
    """A row is of one machine throughout, so that its figures belong together."""
    for one in others:
        row = _row(plan, cell, one.store, limits, Whys({}, {}), str(one.origin))
        if row["status"] != "pending":
            yield row


def _begun(cell: PlannedCell, store: Store) -> bool:
    """Whether any step of the cell's own engine was done here."""
    own = [Ref(s, cell.steps[s]) for s in ("build", *AFTER_BUILD) if s in cell.steps]
    return any(store.account(ref) for ref in own)


AFTER_BUILD = ("verify", "evaluate", "measure")


def _with_speedups(rows: Sequence[Row]) -> list[Row]:
    fp32 = {
        _but_precision(row): row["latency_p50_ms"] for row in rows if row["precision"] == "fp32"
    }
    return [{**row, "speedup_vs_fp32": _speedup(row, fp32)} for row in rows]


_SAME = (
    "model", "opset", "shape", "postprocess", "runtime", "workspace_bytes", "target", "origin",
)  # fmt: skip


def _but_precision(row: Row) -> tuple[Any, ...]:
    """What cells that differ in their precision alone have in common."""
    return tuple(row[name] for name in _SAME)


def _speedup(row: Row, fp32: Mapping[tuple[Any, ...], float | None]) -> float | None:
    """Median latency of the same cell in fp32 over this one's; None for fp32 itself."""
    own, other = row["latency_p50_ms"], fp32.get(_but_precision(row))
    return None if row["precision"] == "fp32" or not own or not other else other / own


@dataclasses.dataclass(frozen=True)
class Whys:
    """Reasons by a step's key: of those that ended badly, and of those that were not begun."""

    bad: Mapping[str, str]
    undone: Mapping[str, str]


def _row(
    plan: Plan,
    planned: PlannedCell,
    store: Store,
    limits: VerifySpec,
    reasons: Whys,
    origin: str = HERE,
) -> Row:
    records = _records(planned, store)
    row: Row = {"cell": planned.cell.id, "sweep": plan.name, **_axes(planned, records)}
    row |= _outcome(planned, store, records, reasons)
    row |= _accuracy(records)
    row |= _agreement(row, planned, store, records, limits.of(planned.cell.precision))
    row |= {name: _figure(records, "measure", name) for name in _SPEED}
    row |= _cost(records)
    row |= _identity(planned, store, records)
    row["origin"] = origin
    return {name: _encodable(value) for name, value in row.items()}


def _encodable(value: Any) -> Any:
    """File names and messages may hold bytes that were no UTF-8: Parquet and MLflow take none."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _records(planned: PlannedCell, store: Store) -> dict[str, Record]:
    found = {stage: store.account(Ref(stage, key)) for stage, key in planned.steps.items()}
    return {stage: record for stage, record in found.items() if record}


def _figure(records: Mapping[str, Record], stage: str, name: str) -> Any:
    record = records.get(stage)
    return record.figures.get(name) if record else None


def _axes(planned: PlannedCell, records: Mapping[str, Record]) -> Row:
    """A ready file's opset is its own, known once it has been read."""
    cell = dataclasses.asdict(planned.cell)
    return {**cell, "opset": cell["opset"] or _figure(records, "export", "opset")}


def _outcome(
    planned: PlannedCell,
    store: Store,
    records: Mapping[str, Record],
    reasons: Whys,
) -> Row:
    """status: ok, failed (with the stage and reason) or pending (not run yet)."""
    if planned.refused:
        stage = "check" if not records else "export"
        return {"status": "failed", "failed_stage": stage, "reason": planned.refused}
    left = [stage for stage in STAGES if stage in planned.steps and stage not in records]
    for stage in left:
        key = planned.steps[stage]
        failure = store.failure(key)
        if reason := failure.reason if failure else reasons.bad.get(key):
            return {"status": "failed", "failed_stage": stage, "reason": reason}
    if left:
        reason, why = f"{left[0]} has not run", reasons.undone.get(planned.steps[left[0]])
        reason = f"{reason}: {why}" if why else reason
        return {"status": "pending", "failed_stage": None, "reason": reason}
    return {"status": "ok", "failed_stage": None, "reason": None}


def _accuracy(records: Mapping[str, Record]) -> Row:
    row = {name: _figure(records, "evaluate", name) for name in AP_NAMES}
    for name in ("box_ap_by_class", "mask_ap_by_class"):
        classes = _figure(records, "evaluate", name)
        row[name] = None if classes is None else json.dumps(classes)
    for kind in ("box", "mask"):
        own, reference = row[f"{kind}_ap"], _figure(records, "reference", f"{kind}_ap")
        row[f"{kind}_ap_reference"] = reference
        known = own is not None and reference is not None
        row[f"{kind}_ap_drop"] = reference - own if known else None
    return row


def _agreement(
    row: Row,
    planned: PlannedCell,
    store: Store,
    records: Mapping[str, Record],
    limits: LimitsSpec,
) -> Row:
    names = _BOXES_AGREE + _RAW_AGREE
    if "verify" not in records:
        return dict.fromkeys(names)
    raw = planned.cell.postprocess == "none"
    folder = store.path(Ref("verify", planned.steps["verify"]))
    pairs = folder / ("raw.npz" if raw else "pairs.npz")
    agreement: Agreement | RawAgreement
    try:
        agreement = judge_raw(pairs, limits) if raw else judge(pairs, limits)
    except (OSError, ValueError):
        reason = f"its pairs cannot be read; remove {pairs.parent} and run again"
        return {
            **dict.fromkeys(names),
            "status": "failed",
            "failed_stage": "verify",
            "reason": reason,
        }
    found: Row = {name: getattr(agreement, name, None) for name in names}
    if agreement.reason and row["status"] != "failed":
        found |= {"status": "failed", "failed_stage": "verify", "reason": agreement.reason}
    return found


def _cost(records: Mapping[str, Record]) -> Row:
    measured = records.get("measure")
    exported, converted = records.get("export"), records.get("convert")
    kept = converted.figures.get("kept_fp32") if converted else None
    return {
        "evaluate_images_per_s": _figure(records, "evaluate", "images_per_s"),
        "export_s": exported.seconds if exported else None,
        "convert_s": converted.seconds if converted else None,
        "kept_fp32": None if kept is None else len(kept),
        "build_s": _figure(records, "build", "build_s"),
        "onnx_bytes": _figure(records, "convert" if converted else "export", "onnx_bytes"),
        "engine_bytes": _figure(records, "build", "engine_bytes"),
        "peak_host_bytes": measured.peak_host_bytes if measured else None,
    }


def _identity(planned: PlannedCell, store: Store, records: Mapping[str, Record]) -> Row:
    """Where and with what it was done: the device, the versions and the key of each step."""
    last = records.get("measure") or records.get("build")
    versions = last.toolchain if last else {}
    runtime = RUNTIMES[planned.cell.runtime]
    # Where an engine was built ahead of time says nothing of where it runs.
    there = records.get("measure") if runtime.compute_capabilities else last
    return {
        "device": there.node.get("device") if there else None,
        "fallback": _figure(records, "build", "fallback"),
        "runtime_version": versions.get(next(iter(runtime.packages), "")),
        "toolchain": "; ".join(
            f"{name} {version}"
            for name, version in sorted(
                {**(records["export"].toolchain if "export" in records else {}), **versions}.items()
            )
        )
        or None,
        **{f"{stage}_key": planned.steps.get(stage) for stage in STAGES},
    }


def places(row: Row, store: Store) -> dict[str, str]:
    """Where a leaderboard row's ONNX file and engine lie, as far as it has them; an imported row's
    are on another machine."""
    found: dict[str, str] = {}
    if row["origin"] != HERE:
        return found
    file = "convert" if row["convert_key"] else "export"
    for name, stage, inner in (("onnx", file, "model.onnx"), ("engine", "build", "engine")):
        if key := row[f"{stage}_key"]:
            path = store.path(Ref(stage, key)) / inner
            if path.exists():
                found[name] = str(path)
    return found
