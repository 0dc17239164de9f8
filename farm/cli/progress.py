"""Show the progress of a sweep: a bar with the remaining time, or lines with the time of day when
piped."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from farm.engine.status import StepStatus
from farm.terminal import plain, plain_lines
from farm.units import format_seconds

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from farm.engine.remaining import TimeLeft
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

    steps: those to be shown. left: the remaining time of these steps.
    """

    def __init__(self, steps: Iterable[Step], left: TimeLeft) -> None:
        from rich.console import Console

        self._remaining = {step.key: step for step in steps}
        self._total, self._left = len(self._remaining), left
        self._running: dict[str, Step] = {}
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
        self._left.started(step)

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Show how the step ended; each reason of skipped steps once."""
        self._running.pop(step.key, None)
        if self._remaining.pop(step.key, None) is None:
            return
        ran = outcome.status not in (StepStatus.BLOCKED, StepStatus.SKIPPED)
        self._left.ended(step, outcome.seconds if ran else None)
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
            print(f"{clock()} {line}", file=self._file, flush=True)
            return
        from rich.text import Text

        self._console.print(Text(line), soft_wrap=True)

    def _remaining_text(self) -> str:
        if not self._remaining:
            return ""
        return f", about {format_seconds(self._left.seconds())} left"

    def _line(self) -> Text:
        done = self._total - len(self._remaining)
        width = 20
        filled = round(width * done / self._total)
        now = ", ".join(f"{step.stage} {step.label}" for step in list(self._running.values()))
        elapsed = format_seconds(time.monotonic() - self._started)
        head = f"[{'#' * filled}{'.' * (width - filled)}] {done}/{self._total} {elapsed}"
        line = f"{head}{self._remaining_text()}: {plain(now)}"
        from rich.text import Text

        return Text(line, no_wrap=True, overflow="ellipsis")


def clock() -> str:
    """Return the time of day here, as 14:05:09."""
    return time.strftime("%H:%M:%S")
