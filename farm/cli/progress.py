"""What a sweep shows while it runs: a bar with the time left, or plain lines when piped."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from farm.engine.status import StepStatus
from farm.terminal import plain, plain_lines
from farm.units import format_seconds

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from farm.engine.scheduler import Outcome
    from farm.plan import Step

_WORDS = {
    StepStatus.DONE: "done",
    StepStatus.FAILED: "FAILED",
    StepStatus.INVALID_INPUT: "WRONG INPUT",
    StepStatus.TRANSIENT: "FAILED (a temporary reason; run again)",
    StepStatus.TIMED_OUT: "TIMED OUT",
    StepStatus.BLOCKED: "not run, since a step before it did not end well",
    StepStatus.SKIPPED: "skipped, with all steps that need the same",
}


class Progress:
    """A watcher of `run_steps`; a context manager."""

    def __init__(self, steps: Iterable[Step], slots: int) -> None:
        from rich.console import Console  # not on machines that only accept: `say` works there

        self._left = {step.key: step for step in steps}
        self._total, self._slots = len(self._left), slots
        self._running: dict[str, Step] = {}
        self._taken: dict[str, list[float]] = defaultdict(list)
        self._told: set[str] = set()
        self._started = time.monotonic()
        # A descriptor of its own: a step run in this process turns stderr to its log.
        self._file = os.fdopen(os.dup(2), "w")
        self._console = Console(file=self._file, highlight=False)
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self._total and self._console.is_terminal:
            from rich.live import Live

            self._live = Live(
                get_renderable=self._line,
                console=self._console,
                refresh_per_second=1,  # a measurement may be running beside it
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
        self._running[step.key] = step

    def ended(self, step: Step, outcome: Outcome) -> None:
        self._running.pop(step.key, None)
        if self._left.pop(step.key, None) is None:
            return
        if outcome.status is StepStatus.DONE:
            self._taken[step.stage].append(outcome.seconds)
        if outcome.status is StepStatus.DONE and self._live:
            return  # the bar says it
        if outcome.status is StepStatus.SKIPPED:
            if outcome.reason in self._told:
                return
            self._told.add(outcome.reason)
        done = self._total - len(self._left)
        line = f"[{done}/{self._total}] {step.stage} {plain(step.label)}: {_WORDS[outcome.status]}"
        if outcome.status is StepStatus.DONE:
            line += f" in {format_seconds(outcome.seconds)}{self._left_text()}"
        elif outcome.status is not StepStatus.BLOCKED:
            line += "".join(f"\n    {one}" for one in plain_lines(outcome.reason))
        from rich.text import Text

        self._console.print(Text(line), soft_wrap=True)

    def seconds_left(self) -> float | None:
        """From the mean time of each stage so far; steps that need a node alone add up."""
        if not self._taken:
            return None
        every = [seconds for taken in self._taken.values() for seconds in taken]
        shared = alone = 0.0
        for step in self._left.values():
            taken = self._taken.get(step.stage) or every
            mean = sum(taken) / len(taken)
            if step.needs.exclusive:
                alone += mean
            else:
                shared += mean
        return shared / self._slots + alone

    def _left_text(self) -> str:
        left = self.seconds_left()
        return f", about {format_seconds(left)} left" if left and self._left else ""

    def _line(self) -> Text:
        done = self._total - len(self._left)
        width = 20
        filled = round(width * done / self._total)
        now = ", ".join(f"{step.stage} {step.label}" for step in self._running.values())
        elapsed = format_seconds(time.monotonic() - self._started)
        head = f"[{'#' * filled}{'.' * (width - filled)}] {done}/{self._total} {elapsed}"
        line = f"{head}{self._left_text()}: {plain(now)}"
        from rich.text import Text

        return Text(line, no_wrap=True, overflow="ellipsis")
