"""Make one row per cell, from the plan and the store's records alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from farm.catalog import OWN_STAGES
from farm.plan.keys import canonical_text
from farm.results.cells import AGREEMENT_FILES, CellResults, FailureReasons, cell_results
from farm.results.columns import COLUMNS, Row
from farm.specs import Ref, Tolerance
from farm.store import Store, imports
from farm.store.opening import CachedStore
from farm.store.records import HERE

if TYPE_CHECKING:
    from farm.config.schema import VerifySpec
    from farm.plan.steps import Plan, PlannedCell
    from farm.specs import Dataset
    from farm.store.imports import Imported


def make_rows(
    plan: Plan,
    store: Store,
    tolerances: VerifySpec,
    failed: Mapping[str, str],
    not_begun: Mapping[str, str] | None = None,
    classes: Mapping[str, str] | None = None,
) -> list[Row]:
    """Make the rows of a plan.

    A cell whose engine was not run here gets the figures of an import, if there is one, and the
    import as its `origin`.

    failed: why steps failed that have no record in the store, by key. not_begun: why steps were not
    started. classes: of the failures in `failed`.
    """
    # Cells share most of their steps, whose records are read once.
    store = CachedStore.of(store)
    asked = (Ref(*one) for cell in plan.cells for one in cell.steps.items())
    store.learn(asked, files={"verify": AGREEMENT_FILES})
    others = [replace(one, store=CachedStore.of(one.store)) for one in imports.imports(store)]
    reasons, rows = FailureReasons(failed, not_begun or {}, classes or {}), []
    limits = _by_precision(plan, tolerances)
    for cell in plan.cells:
        row = _row(plan, cell, store, limits, reasons)
        if row["status"] == "pending" and not _begun(cell, store):
            row = next(_done_elsewhere(plan, cell, others, limits), row)
        rows.append(row)
    return rows


def imported_rows(
    plan: Plan, store: Store, digest: str, tolerances: VerifySpec, failed: Mapping[str, str]
) -> list[Row]:
    """Make the rows of one import, which is found by its digest."""
    (one,) = (one for one in imports.imports(store) if one.origin.digest == digest)
    reasons, origin = FailureReasons(failed, {}), str(one.origin)
    known, limits = CachedStore.of(one.store), _by_precision(plan, tolerances)
    return [_row(plan, cell, known, limits, reasons, origin) for cell in plan.cells]


def _by_precision(plan: Plan, tolerances: VerifySpec) -> Mapping[str, Tolerance]:
    precisions = {cell.cell.precision for cell in plan.cells}
    return {precision: tolerances.of(precision) for precision in precisions}


def _done_elsewhere(
    plan: Plan,
    cell: PlannedCell,
    others: Sequence[Imported],
    tolerances: Mapping[str, Tolerance],
) -> Iterator[Row]:
    """The rows that imports have of the cell. All figures of a row are of one machine."""
    for one in others:
        row = _row(plan, cell, one.store, tolerances, FailureReasons({}, {}), str(one.origin))
        if row["status"] != "pending":
            yield row


def _begun(cell: PlannedCell, store: Store) -> bool:
    """Return whether a step of the cell's engine was done here."""
    on_target = (name for name, stage in OWN_STAGES.items() if stage.on_target)
    own = [Ref(name, cell.steps[name]) for name in on_target if name in cell.steps]
    return any(store.any_record(ref) for ref in own)


def _row(
    plan: Plan,
    cell: PlannedCell,
    store: Store,
    tolerances: Mapping[str, Tolerance],
    reasons: FailureReasons,
    origin: str = HERE,
) -> Row:
    own = tolerances[cell.cell.precision]
    found = cell_results(cell, plan.name, store, own, reasons, origin)
    return row_of(replace(found, dataset=_dataset(plan, cell)))


def _dataset(plan: Plan, cell: PlannedCell) -> str | None:
    """The digest of the data set that the cell's images are of."""
    step = plan.steps.get(cell.steps.get("prepare", ""))
    return _dataset_digest(step.inputs.dataset) if step else None  # type: ignore[union-attr]


@lru_cache(maxsize=64)
def _dataset_digest(dataset: Dataset) -> str:
    return sha256(canonical_text(dataset).encode()).hexdigest()


def row_of(cell: CellResults) -> Row:
    """Return the value of every column."""
    return {name: _encodable(column.value(cell)) for name, column in COLUMNS.items()}


def _encodable(value: Any) -> Any:
    """A text as valid UTF-8, which Parquet and MLflow need; names of files may hold other bytes."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def fp32_cells(rows: Sequence[Row]) -> dict[str, str]:
    """Return the cell in fp32 that is otherwise the same, for each cell of another precision."""
    fp32 = {_but_precision(row): row["cell"] for row in rows if row["precision"] == "fp32"}
    others = (row for row in rows if row["precision"] != "fp32")
    found = ((row["cell"], fp32.get(_but_precision(row))) for row in others)
    return {cell: other for cell, other in found if other}


_SAME = (
    "model", "opset", "shape", "postprocess", "runtime", "workspace_bytes", "target", "origin",
)  # fmt: skip


def _but_precision(row: Row) -> tuple[Any, ...]:
    """The values that cells have in common which differ in their precision alone."""
    return tuple(row[name] for name in _SAME)
