"""What a step's outcome is whose process has ended before it."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from farm.engine.status import Outcome, StepStatus
from farm.engine.workers.limits import DEFAULT_SECONDS
from farm.engine.workers.perform import record_failure
from farm.failures import FailureKind
from farm.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from farm.engine.workers.client import Ended
    from farm.engine.workers.limits import Limit
    from farm.plan.steps import Step
    from farm.store import Store

# What kills a step from outside: too little memory, or a machine that shuts down.
KILLED = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_END_OF_LOG = 1 << 16
"""How many bytes of a log are looked at for its last line."""


def outcome_of_end(step: Step, store: Store, folder: Path, limit: Limit, end: Ended) -> Outcome:
    """The outcome of a step whose process has ended before it."""
    log = folder / "step.log"
    if end.limit:
        return _over_its_limit(step, store, log, limit, end)
    if -end.code in KILLED:
        store.keep_log(step.key, log)
        reason, kind = _why_killed(end)
        return Outcome(step.key, StepStatus.TRANSIENT, reason, kind=kind)
    if end.code < 0:
        reason = f"its code ended by {_signal(-end.code)}"
    else:
        reason = f"its code ended the process with exit code {end.code}{_last_line(log)}"
    return record_failure(step, store, log, reason, 0.0, FailureKind.CRASH)


def _why_killed(end: Ended) -> tuple[str, FailureKind]:
    """Why a process was killed, and the class of that: for memory only if that ran out."""
    if end.with_server:
        return "the fork server of its process was killed", FailureKind.CRASH
    reason = f"its process was killed by {_signal(-end.code)}"
    if -end.code != signal.SIGKILL:
        return reason, FailureKind.NODE_LOST
    if end.no_memory:
        return f"{reason}, and memory ran out", FailureKind.OOM
    return reason, FailureKind.CRASH


def _over_its_limit(step: Step, store: Store, log: Path, limit: Limit, end: Ended) -> Outcome:
    if end.limit == "time":
        reason = f"it did not finish within {format_seconds(limit.seconds)}"
        own, key = step.stage in DEFAULT_SECONDS, f"{step.stage}: TIME"
        more = key if own else f"stages: {{{key}}}"  # of another package
        kind, value = FailureKind.TIMEOUT, limit.seconds
    else:
        reason = f"it used more than {format_bytes(limit.most_bytes)} of memory"
        more, kind, value = "memory: SIZE", FailureKind.OOM, float(limit.most_bytes)
    if limit.of_matrix:
        reason += f"; `limits: {{{more}}}` in the matrix allows more"
    return record_failure(step, store, log, reason, 0.0, kind, value)


def _signal(number: int) -> str:
    return f"signal {number} ({signal.strsignal(number) or 'unknown'})"


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _END_OF_LOG))  # it may have gigabytes
            text = file.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""
    return f"; its log ends with: {text.splitlines()[-1][:300]}" if text else ""


def clear_up(store: Store, key: str) -> None:
    """Keep the log of a step whose supervisor has ended, and remove its working folders."""
    for folder in sorted((store.root / "tmp").glob(f"{key}.*")):
        with suppress(OSError):  # a full disk has no room for the log
            store.keep_log(key, folder / "step.log")
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # the outcome of a worker that could not send it is a file
            folder.unlink(missing_ok=True)
