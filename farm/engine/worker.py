"""The child's side of `apart`: perform one step, leave its outcome, end."""

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
    work: ChildWork = pickle.load(sys.stdin.buffer)
    _end_with(work.parent)
    _read_nothing()
    # A crash says in the log where the code was, and so does a step that is about to be ended.
    faulthandler.enable()
    if work.deadline is not None:
        left = work.deadline - time.monotonic()
        faulthandler.dump_traceback_later(max(left - 1, left * 0.9, 0.01))
    outcome = perform(work.step, work.root, work.echo)
    part = work.answer.with_suffix(".part")
    part.write_bytes(pickle.dumps(outcome))
    part.replace(work.answer)
    os._exit(0)  # whatever threads and handlers the model's code has left


def _end_with(parent: int) -> None:
    """A parent that is killed cannot end its child: the kernel does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _read_nothing() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
