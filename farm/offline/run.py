"""`farm run-pack`: run a pack's steps, each in its own process, and write their records."""

from __future__ import annotations

import argparse
import fcntl
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from farm.cli.places import results_folder
from farm.config.schema import LimitsSpec, VerifySpec
from farm.engine.claims import remove_stale_work
from farm.engine.local import LocalExecutor
from farm.engine.scheduler import run_steps
from farm.engine.status import (
    Outcome,
    StepStatus,
    counted,
    failure_reasons,
    is_well,
    skip_reasons,
)
from farm.engine.workers.limits import Limits, limits_of
from farm.engine.workers.supervise import TIME_IS_UP
from farm.errors import InputError
from farm.offline import records
from farm.offline.archive.writing import find_parts
from farm.offline.contents import Pack
from farm.offline.manifest import VERSION, Manifest
from farm.offline.options import select_cells
from farm.offline.relocate import relocate, this_machine
from farm.offline.unpack import unpack
from farm.plan import Plan, PlannedCell, Step
from farm.results.columns import Row
from farm.results.rows import make_rows
from farm.results.tables.render import render
from farm.store import Store
from farm.units import format_seconds

log = logging.getLogger(__name__)

FOLDER = "packs"
"""The folder in the results for the store of packs, apart from that of sweeps, and for records."""


@dataclass(frozen=True)
class TimeBudget:
    """The time of a run: its start by `time.monotonic`, and its length in seconds."""

    began: float
    seconds: float

    @property
    def passed(self) -> float:
        """The seconds since the start."""
        return time.monotonic() - self.began

    @property
    def end(self) -> float:
        """When it is over, by `time.monotonic`."""
        return self.began + self.seconds


class LineProgress:
    """A watcher of `run_steps` that logs a line for each step, with the standard library alone."""

    def __init__(self, clock: TimeBudget) -> None:
        self._clock = clock

    def started(self, step: Step) -> None:
        """Log nothing until the step has ended."""

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Log how a step ended, unless it was never started."""
        if outcome.status in (StepStatus.SKIPPED, StepStatus.BLOCKED):
            return
        now = format_seconds(self._clock.passed)
        how = (
            format_seconds(outcome.seconds) if outcome.status is StepStatus.DONE else outcome.reason
        )
        log.info(f"[{now:>6}] {step.stage:<8} {step.label}: {how}")


@dataclass
class PackRun:
    """One run of a pack. outcomes: of the steps so far. interrupted: its user stopped it."""

    pack: Pack
    plan: Plan
    store: Store
    output: Path
    clock: TimeBudget
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    interrupted: bool = False

    def run(self, limits: Limits, retry_failed: bool) -> list[Row]:
        """Run cell by cell, so that most cells are complete when the time is up.

        A step that crashes, hangs or runs out of memory stops no other.
        """
        lines = LineProgress(self.clock)
        executor = LocalExecutor(self.store, limits, until=self.clock.end)
        try:
            for cell in self.plan.cells:
                steps = self._steps(cell)
                retries = retry_failed and not set(steps) & set(self.outcomes)
                self.outcomes |= run_steps(
                    steps, self.store, lambda: executor, lines, retries, limits
                )
                self.save()
        except KeyboardInterrupt:
            self.interrupted = True
        self.save()
        return self.rows()

    def _steps(self, cell: PlannedCell) -> dict[str, Step]:
        known = self.plan.steps
        own = set(cell.steps.values())
        return {key: step for key, step in known.items() if key in own}

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why steps did not succeed, by key."""
        return {**self.pack.reasons, **failure_reasons(self.outcomes.values())}

    def rows(self) -> list[Row]:
        """Return the rows of the cells, as in a leaderboard."""
        skipped = skip_reasons(self.outcomes.values())
        tolerances = VerifySpec.model_validate(self.pack.verify)
        return make_rows(self.plan, self.store, tolerances, self.reasons, skipped)

    def save(self) -> None:
        """Write the records of all steps that are done."""
        pack = self.pack
        manifest = Manifest(VERSION, pack.name, pack.verify, dict(self.reasons), self.plan.cells)
        records.save(manifest, self.store, self.output)

    @property
    def exit_code(self) -> int:
        """The exit code, as of a sweep: 130 if cells remain for the next run."""
        if self.interrupted or any(one.reason == TIME_IS_UP for one in self.outcomes.values()):
            return 130
        return 0 if is_well(row["status"] for row in self.rows()) else 1


def run_pack(options: argparse.Namespace) -> int:
    """Run a pack, and write its records. Returns the exit code.

    Raises:
        InputError: the pack is damaged, no cell can run here, or a pack is running already.
    """
    clock = TimeBudget(time.monotonic(), options.minutes * 60)
    parts = find_parts(options.pack)
    folder = results_folder(options.results) / FOLDER
    output = options.records or folder / f"{_stem(parts[0])}.records.tar.gz"
    with _exclusive(folder):
        store = Store(folder / "store")
        remove_stale_work(store)
        output.parent.mkdir(parents=True, exist_ok=True)
        pack = unpack(parts, store)
        here = relocate(
            pack,
            select_cells(pack.cells, options),
            this_machine(),
            f"{store.root}/timing-caches/",
        )
        for reason, number in here.excluded.items():
            log.info(f"{number} cells are not run here: {reason}")
        log.info(f"{len(here.plan.cells)} cells to run, {len(here.plan.steps)} steps")
        run = PackRun(pack, here.plan, store, output, clock)
        limits = limits_of(LimitsSpec.model_validate(pack.limits))
        own = replace(limits, seconds={**limits.seconds, **dict(options.limit)})
        rows = run.run(own, options.retry_failed)
    _report(rows, run)
    return run.exit_code


def _as_text(rows: Sequence[Row]) -> str:
    """The rows as a table; as markdown where rich is not installed, which no step here needs."""
    return render(rows, "table" if find_spec("rich") else "markdown")


def _report(rows: Sequence[Row], run: PackRun) -> None:
    print(_as_text(rows))
    log.info(f"\n{counted(row['status'] for row in rows)}.")
    if run.exit_code == 130:
        why = "Interrupted" if run.interrupted else "The time is up"
        log.warning(f"{why}. What was finished is kept: the same command continues from there.")
    log.info(f"Records, for `farm import` on the other machine: {run.output}")


def _stem(path: Path) -> str:
    """The name of a pack without its suffixes and the number of a part."""
    return re.sub(r"(\.tar)?(\.\w+)?(\.\d+of\d+)?$", "", path.name) or path.name


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Allow one run at a time, since two would disturb each other's measurements.

    Raises InputError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "run.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError("a pack is already running there", str(folder)) from None
        yield
