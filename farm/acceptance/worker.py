"""Steps in a process of their own: one that crashes or hangs costs its own step only."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from farm.engine.perform import perform
from farm.engine.scheduler import Outcome
from farm.plan import Step
from farm.store import Failure, Store


class Worker:
    """Performs one step after another, in a child that is begun anew after a bad one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._child: Any = None
        self._pipe: Connection | None = None

    def perform(self, step: Step, limit_s: float) -> Outcome:
        pipe = self._begun()
        try:
            pipe.send(step)
        except OSError:  # it died while it had nothing to do
            self.stop()
            pipe = self._begun()
            pipe.send(step)
        if not pipe.poll(limit_s):
            self.stop()
            return Outcome(step.key, "transient", f"took longer than {limit_s:.0f} s")
        try:
            outcome: Outcome = pipe.recv()
        except EOFError:
            return self._died(step)
        if outcome.status != "done":
            self.stop()  # after an error CUDA's state in that process may be lost
        return outcome

    def stop(self) -> None:
        """End the child, whatever it is doing."""
        if self._child is not None:
            self._child.kill()
            self._child.join()
            self._store.sweep_out()
        self._child = self._pipe = None

    def _begun(self) -> Connection:
        if self._pipe is None or not self._child.is_alive():
            context = multiprocessing.get_context("spawn")
            self._pipe, other = context.Pipe()
            self._child = context.Process(target=_serve, args=(other, str(self._store.root)))
            self._child.start()
            other.close()
        return self._pipe

    def _died(self, step: Step) -> Outcome:
        """A crash is a reason like others; only one killed from outside is worth another try."""
        self._child.join()
        code = self._child.exitcode
        logs = sorted((self._store.root / "tmp").glob(f"{step.key}.*/step.log"))
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        reason = f"its process ended by {how}{_last_words(logs)}"
        if code == -signal.SIGKILL:
            outcome = Outcome(step.key, "transient", f"{reason}: out of memory?")
            self._store.keep_log(step.key, logs[-1] if logs else None)
        else:
            outcome = Outcome(step.key, "failed", reason)
            failure = Failure(step.stage, step.key, step.label, reason)
            self._store.record_failure(failure, logs[-1] if logs else None)
        self.stop()
        return outcome


def _last_words(logs: list[Path]) -> str:
    """What it said last, as far as it could."""
    text = logs[-1].read_text(errors="replace").strip() if logs else ""
    return f"; its log ends with: {text.splitlines()[-1][:300]}" if text else ""


def _serve(pipe: Connection, root: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")  # kernels that nothing calls stay out
    parent = os.getppid()
    while os.getppid() == parent:
        try:
            step = pipe.recv()
        except EOFError:
            return
        pipe.send(perform(step, root))
