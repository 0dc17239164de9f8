"""Perform one step in this process: run its stage, then publish, or say why it failed."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from farm.errors import InputError, StepFailed, TransientFailure
from farm.plan import Step
from farm.plan.devices import cpu_model
from farm.plan.keys import canonical, toolchain
from farm.stages import Context, stage
from farm.store import Failure, Record, Store

Status = Literal["done", "failed", "input", "transient", "blocked"]


@dataclass(frozen=True)
class Outcome:
    """How a step ended. done: in the store. failed: recorded, it would fail again. input: the
    user's files are wrong. transient: worth another try. blocked: a step before it ended badly.
    """

    key: str
    status: Status
    reason: str = ""
    seconds: float = 0.0


def perform(step: Step, root: str, echo: bool = False) -> Outcome:
    """Run the step unless it is in the store. echo: show its log on the terminal too."""
    store = Store(root)
    if store.record(step.ref):
        return Outcome(step.key, "done")
    folder = store.work_folder(step.key)
    log = folder / "step.log"
    started = time.perf_counter()
    try:
        with _output_to(log, echo):
            _check_node(step)
            _run(step, store, folder)
    except (InputError, StepFailed, TransientFailure, MemoryError, OSError) as error:
        return _ended(step, store, log, error, time.perf_counter() - started)
    except Exception as error:  # a stage's own libraries raise anything; all of it is recorded
        return _ended(step, store, log, error, time.perf_counter() - started)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(step.key, "done", seconds=time.perf_counter() - started)


def _run(step: Step, store: Store, folder: Path) -> None:
    _reset_peak_memory()
    started = time.perf_counter()
    context = Context(store, folder, threads=step.needs.cpus)
    try:
        figures = stage(step.stage)(step.inputs, context)
    except BaseException:
        traceback.print_exc()
        raise
    record = Record(
        stage=step.stage,
        key=step.key,
        label=step.label,
        figures=dict(figures),
        inputs=canonical(step.inputs),
        toolchain=dict(step.toolchain),
        seconds=time.perf_counter() - started,
        peak_host_bytes=_peak_memory(),
        node={
            "host": platform.node(),
            "device": cpu_model(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
    )
    sys.stdout.flush()
    sys.stderr.flush()
    store.publish(folder, record)


def _ended(step: Step, store: Store, log: Path, error: BaseException, seconds: float) -> Outcome:
    """Record a failure that would repeat itself; keep only the log of any other."""
    if isinstance(error, InputError):
        store.keep_log(step.key, log)
        return Outcome(step.key, "input", str(error), seconds)
    if isinstance(error, StepFailed):
        reason = str(error)
    else:
        text = str(error).strip()
        first = text.splitlines()[0] if text else ""
        reason = f"{type(error).__name__}: {first[:300]}"
    if isinstance(error, TransientFailure | MemoryError | OSError):
        store.keep_log(step.key, log)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            reason = f"the disk is full ({store.root}); free some space and run again"
        return Outcome(step.key, "transient", reason, seconds)
    store.record_failure(Failure(step.stage, step.key, step.label, reason), log)
    return Outcome(step.key, "failed", reason, seconds)


def _check_node(step: Step) -> None:
    """The key names versions and a processor: this node must have the same."""
    here = dict(toolchain(name for name, _ in step.toolchain))
    for name, planned in step.toolchain:
        if here[name] != planned:
            raise TransientFailure(
                f"node {platform.node()} has {name} {here[name]}, the plan was made with "
                f"{planned}: install the same version on both"
            )
        if planned == "absent":
            raise TransientFailure(
                f"{name} is not installed; `farm doctor` says how to get what is missing"
            )
    target = getattr(step.inputs, "target", None)
    if target is not None and not target.accelerator and target.device != cpu_model():
        raise TransientFailure(
            f"target {target.name} is {target.device}, node {platform.node()} is {cpu_model()}: "
            "give that target its own nodes, or name its `device` in the matrix"
        )


@contextmanager
def _output_to(log: Path, echo: bool) -> Iterator[None]:
    """Everything written to stdout and stderr, native libraries' too, goes to the log."""
    with ExitStack() as stack:
        if echo:
            tee = stack.enter_context(subprocess.Popen(["tee", str(log)], stdin=subprocess.PIPE))
            sink: IO[bytes] | None = tee.stdin
        else:
            sink = stack.enter_context(log.open("wb"))
        assert sink is not None
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for old, number in zip(kept, (1, 2), strict=True):
                os.dup2(old, number)
                os.close(old)


def _reset_peak_memory() -> None:
    """Start this process's peak (VmHWM) anew: workers perform many steps (see proc(5))."""
    with suppress(OSError):  # not Linux, or not allowed: the peak is the process's whole life
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> int:
    """Peak resident memory in bytes since the last reset."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
