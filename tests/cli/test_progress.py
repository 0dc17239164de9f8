"""What a sweep shows while it runs, and the estimate of the time left."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import time

import pytest

from farm.cli.progress import Progress
from farm.engine.estimates import Estimates
from farm.engine.remaining import TimeLeft
from farm.engine.scheduler import Outcome, StepStatus
from farm.plan import Needs, Step


def step(key: str, stage: str = "export", exclusive: bool = False) -> Step:
    needs = Needs(exclusive=exclusive)
    return Step(stage, key, f"label {key}", None, (), (), needs, "")  # type: ignore[arg-type]


def shown(
    capfd: pytest.CaptureFixture[str], steps: list[Step], *outcomes: Outcome, slots: int = 1
) -> str:
    by_key = {one.key: one for one in steps}
    with Progress(steps, TimeLeft(steps, Estimates(), slots)) as progress:
        for outcome in outcomes:
            progress.started(by_key[outcome.key])
            progress.ended(by_key[outcome.key], outcome)
    return without_times(capfd.readouterr().err)


def without_times(text: str) -> str:
    """Without the time of day that begins the first line of each step."""
    return re.sub(r"^[0-2]\d:[0-5]\d:[0-5]\d (?=\[)", "", text, flags=re.MULTILINE)


def test_each_step_that_ends_is_a_line_with_the_time_left(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """By what nothing is known of: 20 s an export; twice that has passed for one in no time."""
    steps = [step("a"), step("b"), step("c")]
    with Progress(steps, TimeLeft(steps, Estimates(), 1, clock=lambda: 0.0)) as progress:
        for one in steps:
            progress.ended(one, Outcome(one.key, StepStatus.DONE, "", 0.0))
    text = capfd.readouterr().err
    assert re.match(r"[0-2]\d:[0-5]\d:[0-5]\d \[1/3\]", text)
    assert without_times(text) == (
        "[1/3] export label a: done in 0.0s, about 40.0s left\n"
        "[2/3] export label b: done in 0.0s, about 40.0s left\n"
        "[3/3] export label c: done in 0.0s\n"
    )


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("failed", "FAILED\n    line 1\n    line 2\n"),
        ("input", "WRONG INPUT\n    line 1\n    line 2\n"),
        ("transient", "FAILED (a temporary reason; run again)\n    line 1\n    line 2\n"),
        ("blocked", "not run, since a step before it did not end well\n"),
        ("skipped", "skipped, with all steps that need the same\n    line 1\n    line 2\n"),
    ],
)
def test_a_step_that_did_not_end_well_says_why(
    status: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = Outcome("a", StepStatus(status), "line 1\nline 2", 3.0)
    assert shown(capfd, [step("a")], outcome) == f"[1/1] export label a: {words}"


def test_steps_skipped_for_one_reason_are_shown_once(capfd: pytest.CaptureFixture[str]) -> None:
    text = shown(
        capfd, [step("a"), step("b"), step("c")],
        Outcome("a", StepStatus.SKIPPED, "no H100"), Outcome("b", StepStatus.SKIPPED, "no H100"),
        Outcome("c", StepStatus.SKIPPED, "no L4"),
    )  # fmt: skip
    assert text.count("no H100") == 1 and text.count("no L4") == 1
    assert "[1/3] export label a" in text and "label b" not in text and "[3/3]" in text


def test_steps_of_another_plan_are_not_counted(capfd: pytest.CaptureFixture[str]) -> None:
    with Progress([step("a")], TimeLeft([step("a")], Estimates(), 1)) as progress:
        progress.ended(step("other"), Outcome("other", StepStatus.DONE))
        progress.ended(step("a"), Outcome("a", StepStatus.DONE, "", 2.0))
        progress.ended(step("a"), Outcome("a", StepStatus.DONE, "", 2.0))
    assert without_times(capfd.readouterr().err) == "[1/1] export label a: done in 2.0s\n"


def test_a_terminal_has_a_bar_and_lines_for_failures_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leader, follower = pty.openpty()
    keep = os.dup(2)
    monkeypatch.setenv("TERM", "xterm")
    try:
        os.dup2(follower, 2)
        steps = [step("a"), step("b"), step("c")]
        with Progress(steps, TimeLeft(steps, Estimates(), 1)) as progress:
            progress.started(steps[0])
            time.sleep(0.05)  # its step has taken a time
            progress.ended(steps[0], Outcome("a", StepStatus.DONE, "", 1.0))
            progress.started(steps[1])
            line = progress._line().plain
            progress.ended(steps[1], Outcome("b", StepStatus.FAILED, "why"))
    finally:
        os.dup2(keep, 2)
        os.close(keep)
        os.close(follower)
    bar = r"\[#{7}\.{13}\] 1/3 [\d.]+s, about [\d.]+s left: export label b"
    assert re.fullmatch(bar, line)
    text = written(leader)
    assert "label a: done" not in text
    assert "[2/3] export label b: FAILED" in text and "why" in text


def written(leader: int) -> str:
    """All that a terminal was given whose other end is closed."""
    data = b""
    with contextlib.suppress(OSError):  # the end
        while more := os.read(leader, 1 << 16):
            data += more
    os.close(leader)
    return data.decode()


def test_nothing_to_do_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert shown(capfd, []) == ""
