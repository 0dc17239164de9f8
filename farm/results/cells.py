"""Collect what is known of one cell: its records, its outcome, its agreement with PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.catalog import OWN_STAGES
from farm.detections.compare import Agreement, RawAgreement, agreement, raw_agreement
from farm.engine.status import CellStatus
from farm.errors import AlteredArtifact
from farm.failures import FailureKind
from farm.plan import STAGES, PlannedCell
from farm.results import arrays
from farm.specs import Ref, Tolerance
from farm.store.records import HERE

if TYPE_CHECKING:
    from farm.store import Record, Store

PAIRS, RAW = AGREEMENT_FILES = "pairs.npz", "raw.npz"
"""What `verify` leaves for the agreement; the second where a graph ends before its detections."""


def read_agreement(pairs_file: Path, tolerance: Tolerance) -> Agreement:
    """Compare the pairs of boxes in this file. Raises OSError or ValueError for a damaged file."""
    return agreement(arrays.pairs(pairs_file), tolerance)


def read_raw_agreement(raw_file: Path, tolerance: Tolerance) -> RawAgreement:
    """Compare the raw outputs in this file. Raises OSError or ValueError for a damaged file."""
    return raw_agreement(arrays.raw(raw_file), tolerance)


@dataclass(frozen=True)
class FailureReasons:
    """Why steps without a record failed or were not started, by their keys.

    classes: of those that failed.
    """

    failed: Mapping[str, str]
    not_begun: Mapping[str, str]
    classes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: failed at `failed_stage`, pending or skipped; with the reason if it is not
    OK.

    failure_class: of a failure, a `FailureKind`; None where it is not known.
    """

    status: CellStatus
    failed_stage: str | None = None
    reason: str | None = None
    failure_class: str | None = None


@dataclass(frozen=True)
class CellResults:
    """The results of a cell. records: of the finished steps, by stage. origin: the machine that the
    records are of. dataset: a digest of the data set, images and annotations by their content."""

    planned: PlannedCell
    sweep: str
    records: Mapping[str, Record]
    outcome: Outcome
    agreement: Agreement | RawAgreement | None
    origin: str
    dataset: str | None = None

    def figure(self, stage: str, name: str) -> Any:
        """Return a figure of the stage's record; None if there is none."""
        record = self.records.get(stage)
        return record.figures.get(name) if record else None

    def compared(self, name: str) -> Any:
        """Return what the comparison found of this cell's engine; None if there is none."""
        found = self.figure("compare", "entrants") or {}
        return found.get(self.planned.steps.get("measure"), {}).get(name)

    def latency(self, name: str) -> Any:
        """Return a figure of the engine's latency: of `compare` where that has more samples than
        `measure`, else of `measure`, so that all of a row's figures are of the same samples."""
        if self.latency_source == "compare":
            return self.compared(name)
        return self.figure("measure", name)

    @property
    def measured_at(self) -> str | None:
        """When the samples of the latency were taken, in UTC."""
        source = self.latency_source
        return self.figure(source, "measured_at") if source else None

    @property
    def latency_source(self) -> str | None:
        """The stage whose samples the latency is of; None where the engine was not measured."""
        measured, compared = self.figure("measure", "samples"), self.compared("samples")
        if measured is None:
            return None
        return "compare" if compared is not None and compared > measured else "measure"


def cell_results(
    planned: PlannedCell,
    sweep: str,
    store: Store,
    tolerance: Tolerance,
    reasons: FailureReasons,
    origin: str = HERE,
) -> CellResults:
    """Collect the results of a cell from the store.

    tolerance: that of the cell's precision, for the differences that `verify` recorded.
    """
    known = {stage: store.any_record(Ref(stage, key)) for stage, key in planned.steps.items()}
    records = {stage: record for stage, record in known.items() if record}
    outcome, found = _outcome(planned, store, records, reasons), None
    if "verify" in records:
        found, reason = _agreement(planned, store, tolerance)
        if reason and (found is None or outcome.status is not CellStatus.FAILED):
            kind = FailureKind.MISMATCH.value if found else FailureKind.IO.value
            outcome = Outcome(CellStatus.FAILED, "verify", reason, kind)
    return CellResults(planned, sweep, records, outcome, found, origin)


def _outcome(
    planned: PlannedCell, store: Store, records: Mapping[str, Record], reasons: FailureReasons
) -> Outcome:
    if planned.refused:
        return _refused(planned, planned.refused, store, records, reasons)
    missing = [stage for stage in _own_stages(planned) if stage not in records]
    for stage in missing:
        key = planned.steps[stage]
        failure = store.failure(key)
        reason = failure.reason if failure else reasons.failed.get(key)
        if reason is not None:
            kind = failure.kind if failure else reasons.classes.get(key)
            return Outcome(CellStatus.FAILED, stage, reason, kind or None)
    if not missing:
        return Outcome(CellStatus.OK)
    why = reasons.not_begun.get(planned.steps[missing[0]])
    waiting = f"{missing[0]} has not run"
    return Outcome(CellStatus.PENDING, None, f"{waiting}: {why}" if why else waiting)


def _refused(
    planned: PlannedCell,
    reason: str,
    store: Store,
    records: Mapping[str, Record],
    reasons: FailureReasons,
) -> Outcome:
    """A cell has failed where nothing of its model or runtime works; it is skipped where its own
    axes do not go together."""
    check = records.get("check")
    key = planned.steps["check"]
    unchecked = check is None and (key in reasons.failed or store.failure(key) is not None)
    if planned.refused_stage or unchecked or (check and check.figures.get("refused") == reason):
        at = planned.refused_stage or ("export" if check else "check")
        return Outcome(CellStatus.FAILED, at, reason, _refused_class(planned, store, reasons))
    return Outcome(CellStatus.SKIPPED, None, reason)


def _own_stages(planned: PlannedCell) -> list[str]:
    """The stages without which the cell is not whole."""
    joint = {name for name, stage in OWN_STAGES.items() if stage.joint}
    return [stage for stage in STAGES if stage in planned.steps and stage not in joint]


def _refused_class(planned: PlannedCell, store: Store, reasons: FailureReasons) -> str:
    """The class of the failure of its model's check, if that is the reason."""
    check = planned.steps["check"]
    failure = store.failure(check)
    if failure and failure.reason == planned.refused:
        return failure.kind or FailureKind.UNSUPPORTED.value
    return reasons.classes.get(check, FailureKind.UNSUPPORTED.value)


def _agreement(
    planned: PlannedCell, store: Store, tolerance: Tolerance
) -> tuple[Agreement | RawAgreement | None, str | None]:
    """The agreement, and why the engine is not the same detector (None if it is)."""
    raw = planned.cell.postprocess == "none"
    ref = Ref("verify", planned.steps["verify"])
    name = RAW if raw else PAIRS
    try:
        path = store.whole_file(ref, name)
        found = read_raw_agreement(path, tolerance) if raw else read_agreement(path, tolerance)
    except AlteredArtifact:
        return None, "its pairs were altered; run the sweep again, which makes them anew"
    except (OSError, ValueError):
        return None, f"its pairs cannot be read; remove {store.path(ref)} and run again"
    return found, found.reason
