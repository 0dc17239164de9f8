"""The thread in which Ray starts and ends, so that a signal interrupts who waits, and never Ray.

Ray puts a handler of its own for SIGTERM in place while it starts, which aborts the process, and
removes any when it ends. An exception raised in the middle of either leaves a Ray that crashes the
process at its end.
"""

from __future__ import annotations

import atexit
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import ray

from farm import interrupts
from farm.engine.workers.processes import children_of, kill_trees
from farm.interrupts import Interrupted

T = TypeVar("T")

_PUT_BACK_S = 0.01
"""How often the handler is put back, in seconds."""

_END_S = 4.0
"""How long killed processes are waited for, in seconds."""


def call(function: Callable[[], T], wait_s: float = float("inf")) -> T:
    """Call the function in the thread, and wait for what it returns.

    Raises:
        TimeoutError: it takes longer than that; it goes on, and Ray is abandoned.
        Interrupted: a signal has come meanwhile; likewise.
    """
    try:
        return _THREAD.call(function, wait_s)
    except (TimeoutError, Interrupted):
        abandon()
        raise


def abandon() -> None:
    """Let this process end without asking Ray, which may be in any state."""
    interrupts.end_at_once()
    atexit.unregister(ray._private.worker.shutdown)


def kill_started() -> None:
    """Kill the processes that the thread has started, with all that these have started.

    Wait for their ends for a few seconds: those of a low priority take a while on a busy machine.
    """
    _THREAD.kill_started()


class _RayThread:
    """A thread that lives as long as this process: what it has started is to end with it, and the
    kernel takes the end of the thread for that of its process (PR_SET_PDEATHSIG)."""

    def __init__(self) -> None:
        self._calls = queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]]()
        self._thread: threading.Thread | None = None
        self._killed = set[int]()

    def call(self, function: Callable[[], T], wait_s: float) -> T:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ray", daemon=True)
            self._thread.start()
        future, until = Future[T](), time.monotonic() + wait_s
        self._calls.put((future, function))
        handler = signal.getsignal(signal.SIGTERM)
        is_main = threading.current_thread() is threading.main_thread()
        while not future.done():
            if time.monotonic() > until:
                raise TimeoutError
            time.sleep(_PUT_BACK_S)
            if is_main and handler is not None:
                signal.signal(signal.SIGTERM, handler)
        return future.result()

    def _run(self) -> None:
        while True:
            future, function = self._calls.get()
            try:
                future.set_result(function())
            except BaseException as error:  # raised again by who waits for it
                future.set_exception(error)

    def kill_started(self) -> None:
        self._killed |= kill_trees(self._started())
        until = time.monotonic() + _END_S
        while any(map(_runs, self._killed)) and time.monotonic() < until:
            time.sleep(0.01)

    def _started(self) -> list[int]:
        if self._thread is None or self._thread.native_id is None:
            return []
        return children_of(os.getpid(), self._thread.native_id)


_THREAD = _RayThread()


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
