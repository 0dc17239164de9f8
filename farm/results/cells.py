"""What is known of one cell: its records, how it ended, and how it agrees with PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from farm.detections.compare import Agreement, RawAgreement
from farm.engine.status import CellStatus
from farm.plan import STAGES, PlannedCell
from farm.results.verdict import judge, judge_raw
from farm.specs import Ref, Tolerance
from farm.store import Record, Store
from farm.store.imports import HERE


@dataclass(frozen=True)
class FailureReasons:
    """By a step's key, where the store has no record: why it ended badly, or was not begun."""

    failed: Mapping[str, str]
    not_begun: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """How a cell ended. failed_stage: where it failed. reason: None where it is OK."""

    status: CellStatus
    failed_stage: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class CellResults:
    """records: of the steps that are done, by stage. origin: of another machine's records."""

    planned: PlannedCell
    sweep: str
    records: Mapping[str, Record]
    outcome: Outcome
    agreement: Agreement | RawAgreement | None
    origin: str

    def figure(self, stage: str, name: str) -> Any:
        """A figure of the stage's record; None where there is none."""
        record = self.records.get(stage)
        return record.figures.get(name) if record else None


def cell_results(
    planned: PlannedCell,
    sweep: str,
    store: Store,
    tolerance: Tolerance,
    reasons: FailureReasons,
    origin: str = HERE,
) -> CellResults:
    """tolerance: of the cell's precision, to judge the differences that `verify` kept."""
    known = {stage: store.any_record(Ref(stage, key)) for stage, key in planned.steps.items()}
    records = {stage: record for stage, record in known.items() if record}
    outcome, agreement = _outcome(planned, store, records, reasons), None
    if "verify" in records:
        agreement, reason = _agreement(planned, store, tolerance)
        if reason and (agreement is None or outcome.status is not CellStatus.FAILED):
            outcome = Outcome(CellStatus.FAILED, "verify", reason)
    return CellResults(planned, sweep, records, outcome, agreement, origin)


def _outcome(
    planned: PlannedCell, store: Store, records: Mapping[str, Record], reasons: FailureReasons
) -> Outcome:
    if planned.refused:
        return Outcome(CellStatus.FAILED, "check" if not records else "export", planned.refused)
    missing = [stage for stage in STAGES if stage in planned.steps and stage not in records]
    for stage in missing:
        key = planned.steps[stage]
        failure = store.failure(key)
        reason = failure.reason if failure else reasons.failed.get(key)
        if reason is not None:
            return Outcome(CellStatus.FAILED, stage, reason)
    if not missing:
        return Outcome(CellStatus.OK)
    why = reasons.not_begun.get(planned.steps[missing[0]])
    waiting = f"{missing[0]} has not run"
    return Outcome(CellStatus.PENDING, None, f"{waiting}: {why}" if why else waiting)


def _agreement(
    planned: PlannedCell, store: Store, tolerance: Tolerance
) -> tuple[Agreement | RawAgreement | None, str | None]:
    """How the engine agrees, and why it is not the same detector; None for the same one."""
    raw = planned.cell.postprocess == "none"
    folder = store.path(Ref("verify", planned.steps["verify"]))
    pairs = folder / ("raw.npz" if raw else "pairs.npz")
    try:
        found = judge_raw(pairs, tolerance) if raw else judge(pairs, tolerance)
    except (OSError, ValueError):
        return None, f"its pairs cannot be read; remove {pairs.parent} and run again"
    return found, found.reason
