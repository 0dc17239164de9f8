"""Show the progress of a sweep: a bar with the remaining time, or plain lines when piped."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from farm.engine.status import StepStatus
from farm.terminal import plain, plain_lines
from farm.units import format_seconds

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from farm.engine.scheduler import Outcome
    from farm.plan.steps import Step

_TEXTS = {
    StepStatus.DONE: "done",
    StepStatus.FAILED: "FAILED",
    StepStatus.INVALID_INPUT: "WRONG INPUT",
    StepStatus.TRANSIENT: "FAILED (a temporary reason; run again)",
    StepStatus.BLOCKED: "not run, since a step before it did not end well",
    StepStatus.SKIPPED: "skipped, with all steps that need the same",
}


class Progress:
    """A watcher of `run_steps`, and a context manager.

    steps: those to be shown. slots: how many of them run at a time, for the remaining time.
    """

    def __init__(self, steps: Iterable[Step], slots: int) -> None:
        from rich.console import Console

        self._remaining = {step.key: step for step in steps}
        self._total, self._slots = len(self._remaining), slots
        self._running: dict[str, Step] = {}
        self._left = Counter(_kind(step) for step in self._remaining.values())
        self._done, self._seconds = Counter[str](), defaultdict[str, float](float)  # by stage
        self._shown_reasons: set[str] = set()
        self._started = time.monotonic()
        # A copy of stderr, since a step that runs in this process redirects stderr to its log.
        self._file = os.fdopen(os.dup(2), "w")
        self._console = Console(file=self._file, highlight=False)
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self._total and self._console.is_terminal:
            from rich.live import Live

            self._live = Live(
                get_renderable=self._line,
                console=self._console,
                refresh_per_second=1,  # seldom, since a measurement may be running
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()
        self._file.close()

    def started(self, step: Step) -> None:
        """Show the step as running."""
        self._running[step.key] = step

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Show how the step ended; each reason of skipped steps once."""
        self._running.pop(step.key, None)
        if self._remaining.pop(step.key, None) is None:
            return
        self._left[_kind(step)] -= 1
        if outcome.status is StepStatus.DONE:
            self._done[step.stage] += 1
            self._seconds[step.stage] += outcome.seconds
        if outcome.status is StepStatus.DONE and self._live:
            return  # the bar shows it
        if outcome.status is StepStatus.SKIPPED:
            if outcome.reason in self._shown_reasons:
                return
            self._shown_reasons.add(outcome.reason)
        done = self._total - len(self._remaining)
        line = f"[{done}/{self._total}] {step.stage} {plain(step.label)}: {_TEXTS[outcome.status]}"
        if outcome.status is StepStatus.DONE:
            line += f" in {format_seconds(outcome.seconds)}{self._remaining_text()}"
        elif outcome.status is not StepStatus.BLOCKED:
            line += "".join(f"\n    {one}" for one in plain_lines(outcome.reason))
        self._print(line)

    def _print(self, line: str) -> None:
        if not self._console.is_terminal:  # rich takes ten times as long
            print(line, file=self._file, flush=True)
            return
        from rich.text import Text

        self._console.print(Text(line), soft_wrap=True)

    def remaining_seconds(self) -> float | None:
        """Estimate the remaining time from the mean time of each stage so far; None before any step
        has ended. Exclusive steps run one after another."""
        if not self._done:
            return None
        every = sum(self._seconds.values()) / sum(self._done.values())
        shared = alone = 0.0
        for (stage, exclusive), count in self._left.items():
            mean = self._seconds[stage] / self._done[stage] if self._done[stage] else every
            if exclusive:
                alone += count * mean
            else:
                shared += count * mean
        return shared / self._slots + alone

    def _remaining_text(self) -> str:
        seconds = self.remaining_seconds()
        return f", about {format_seconds(seconds)} left" if seconds and self._remaining else ""

    def _line(self) -> Text:
        done = self._total - len(self._remaining)
        width = 20
        filled = round(width * done / self._total)
        now = ", ".join(f"{step.stage} {step.label}" for step in self._running.values())
        elapsed = format_seconds(time.monotonic() - self._started)
        head = f"[{'#' * filled}{'.' * (width - filled)}] {done}/{self._total} {elapsed}"
        line = f"{head}{self._remaining_text()}: {plain(now)}"
        from rich.text import Text

        return Text(line, no_wrap=True, overflow="ellipsis")


def _kind(step: Step) -> tuple[str, bool]:
    return step.stage, step.needs.exclusive
