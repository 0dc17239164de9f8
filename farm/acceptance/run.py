"""Run a pack's remaining steps one by one, as far as the time goes; all is kept as it goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farm.acceptance import records, table
from farm.acceptance.contents import Pack
from farm.acceptance.steps import Work
from farm.acceptance.worker import Worker
from farm.cli.progress import say
from farm.config.schema import VerifySpec
from farm.plan import Plan, Step
from farm.results.columns import Row
from farm.results.rows import make_rows
from farm.store import Store, imports
from farm.units import format_seconds

GUESSES = {"build": 45.0, "verify": 10.0, "measure": 12.0, "evaluate": 10.0}
"""Seconds that a step is thought to take before one of its kind has run."""

CUT_SHORT = "the time was up"


@dataclass
class Clock:
    """The time there is, and how long steps of each stage and model have taken at most."""

    seconds: float
    began: float
    longest: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def left(self) -> float:
        return self.began + self.seconds - time.monotonic()

    @property
    def passed(self) -> float:
        return time.monotonic() - self.began

    def guess(self, stage: str, model: str) -> float:
        """As long as the model took before; for a new one, as the slowest other."""
        if (stage, model) in self.longest:
            return self.longest[stage, model]
        known = [seconds for (of, _), seconds in self.longest.items() if of == stage]
        return max(known, default=GUESSES.get(stage, 10.0))

    def took(self, stage: str, model: str, seconds: float) -> None:
        self.longest[stage, model] = max(seconds, self.longest.get((stage, model), 0.0))


@dataclass
class Acceptance:
    """One run of a pack on one machine. reasons: why a step, by its key, did not end well."""

    pack: Pack
    target: str
    works: Sequence[Work]
    store: Store
    out: Path
    clock: Clock
    machine: Mapping[str, Any]
    step_s: float
    reasons: dict[str, str] = field(default_factory=dict)
    ended: str = "done"

    def run(self, retry_failed: bool) -> list[Row]:
        """The cells in order; returns their rows."""
        worker = Worker(self.store)
        try:
            for work in self.works:
                if self._cell(work, worker, retry_failed):
                    self.write()
                else:
                    self.ended = "time"  # a quicker one may still fit
        except KeyboardInterrupt:
            self.ended = "interrupted"
        finally:
            worker.stop()
        return self.write()

    def _cell(self, work: Work, worker: Worker, retry_failed: bool) -> bool:
        """False where the time is up; a step that ends badly ends its own cell only."""
        refs = [step.ref for step in work.steps]
        if all(map(self.store.record, refs)) or imports.has_all(self.store, refs):
            return True  # here, or in the records that the user asked to go on from
        for step in work.steps:
            if self.store.record(step.ref):
                continue
            if retry_failed:
                self.store.forget(step.ref)
            elif self.store.failure(step.key):
                return True
            if self.clock.guess(step.stage, work.cell.model) > self.clock.left:
                return False
            limit = min(self.step_s, self.clock.left)
            outcome = worker.perform(step, limit)
            if outcome.status == "transient" and limit < self.step_s and self.clock.left <= 0:
                return False  # cut short by the end: it has not failed
            self._say(step, outcome.seconds, outcome.reason)
            if outcome.status != "done":
                self.reasons[step.key] = outcome.reason
                return True
            self.clock.took(step.stage, work.cell.model, outcome.seconds)
        return True

    def _say(self, step: Step, seconds: float, reason: str) -> None:
        now = format_seconds(self.clock.passed)
        say(f"[{now:>6}] {step.stage:<8} {step.label}: {reason or format_seconds(seconds)}")

    def write(self) -> list[Row]:
        """Everything that is known so far, into the folder that is taken home."""
        planned = [work.planned for work in self.works]
        limits = VerifySpec.model_validate(self.pack.verify)
        plan = Plan(self.pack.name, tuple(planned), {}, (), ())
        rows = make_rows(plan, self.store, limits, self.reasons)
        sweep = records.brought(self.pack, self.target, planned, self.reasons)
        records.save(sweep, self.store, self.out / "records.tar.gz")
        self._put("table.txt", table.table(rows))
        self._put("summary.json", self.summary(rows))
        self._put("failed.log", "\n".join(self._logs()))
        return rows

    def _logs(self) -> Iterator[str]:
        """The ends of the logs of what failed."""
        for step in (step for work in self.works for step in work.steps):
            path = self.store.log_path(step.ref)
            if self.store.record(step.ref) is None and path.exists():
                yield f"=== {step.stage} {step.label}"
                yield path.read_text(errors="replace")[-20_000:]

    def summary(self, rows: Sequence[Row]) -> str:
        machine = {**self.machine, "seconds": round(self.clock.passed)}
        return table.summary(rows, machine, self.ended)

    def _put(self, name: str, text: str) -> None:
        part = self.out / f"{name}.part"
        part.write_text(f"{text}\n")
        part.replace(self.out / name)


def exit_code(ended: str, rows: Sequence[Row]) -> int:
    """As a sweep's: 130 where cells are left for the next run."""
    if ended != "done":
        return 130
    return 0 if all(row["status"] == "ok" for row in rows) else 1
