"""The child process of `perform_apart`: perform one step, write its outcome, end."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import signal
import sys
import time

from farm.engine.perform import perform
from farm.engine.process import ChildWork

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Perform the step that standard input has, and end the process."""
    work: ChildWork = pickle.load(sys.stdin.buffer)
    _end_with(work.parent)
    _read_nothing()
    # Write a traceback into the log on a crash, and shortly before the step is killed.
    faulthandler.enable()
    if work.deadline is not None:
        remaining = work.deadline - time.monotonic()
        faulthandler.dump_traceback_later(max(remaining - 1, remaining * 0.9, 0.01))
    outcome = perform(work.step, work.root, work.echo)
    part = work.outcome_file.with_suffix(".part")
    part.write_bytes(pickle.dumps(outcome))
    part.replace(work.outcome_file)
    os._exit(0)  # without the threads and exit handlers of the model's code


def _end_with(parent: int) -> None:
    """Let the kernel kill this process with its parent, which may be killed itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _read_nothing() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
