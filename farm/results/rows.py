"""One row per cell, made from the plan and the store's records alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from farm.catalog import OWN_STAGES
from farm.config.schema import VerifySpec
from farm.plan import Plan, PlannedCell
from farm.results.cells import CellResults, FailureReasons, cell_results
from farm.results.columns import COLUMNS, Row
from farm.specs import Ref
from farm.store import Store, imports
from farm.store.imports import HERE, Imported

AFTER_BUILD = tuple(name for name, stage in OWN_STAGES.items() if stage.from_engine)


def make_rows(
    plan: Plan,
    store: Store,
    limits: VerifySpec,
    failed: Mapping[str, str],
    not_begun: Mapping[str, str] | None = None,
) -> list[Row]:
    """A cell of which nothing was run here has an import's figures, if there are any; a row's
    `origin` says so.

    failed: why a step (by key) did not end well, where the store has no record of it.
    not_begun: why one was not begun.
    """
    reasons, others = FailureReasons(failed, not_begun or {}), imports.imports(store)
    rows = []
    for cell in plan.cells:
        row = _row(plan, cell, store, limits, reasons)
        if row["status"] == "pending" and not _begun(cell, store):
            row = next(_done_elsewhere(plan, cell, others, limits), row)
        rows.append(row)
    return _with_speedups(rows)


def imported_rows(
    plan: Plan, store: Store, digest: str, limits: VerifySpec, failed: Mapping[str, str]
) -> list[Row]:
    """The rows of one import alone, by its digest."""
    (one,) = (one for one in imports.imports(store) if one.origin.digest == digest)
    reasons, origin = FailureReasons(failed, {}), str(one.origin)
    return _with_speedups(
        [_row(plan, cell, one.store, limits, reasons, origin) for cell in plan.cells]
    )


def _done_elsewhere(
    plan: Plan, cell: PlannedCell, others: Sequence[Imported], limits: VerifySpec
) -> Iterator[Row]:
    """A row is of one machine throughout, so that its figures belong together."""
    for one in others:
        row = _row(plan, cell, one.store, limits, FailureReasons({}, {}), str(one.origin))
        if row["status"] != "pending":
            yield row


def _begun(cell: PlannedCell, store: Store) -> bool:
    """Whether any step of the cell's own engine was done here."""
    own = [Ref(s, cell.steps[s]) for s in ("build", *AFTER_BUILD) if s in cell.steps]
    return any(store.any_record(ref) for ref in own)


def _row(
    plan: Plan,
    cell: PlannedCell,
    store: Store,
    limits: VerifySpec,
    reasons: FailureReasons,
    origin: str = HERE,
) -> Row:
    own = limits.of(cell.cell.precision)
    return row_of(cell_results(cell, plan.name, store, own, reasons, origin))


def row_of(cell: CellResults) -> Row:
    """Every column's value."""
    return {name: _encodable(column.value(cell)) for name, column in COLUMNS.items()}


def _encodable(value: Any) -> Any:
    """File names and messages may hold bytes that were no UTF-8: Parquet and MLflow take none."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


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
