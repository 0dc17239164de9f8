"""Perform one step in this process: run its stage, then publish, or say why it failed."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import signal
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from farm import interrupts, logs
from farm.engine.output import add_traceback, output_to, same_folder
from farm.errors import (
    FarmError,
    InputError,
    TransientFailure,
    chain,
    kind_of,
    out_of_memory,
    text_of,
)
from farm.plan import Step, dependencies
from farm.plan.compatibility import step_unsupported
from farm.plan.keys import canonical
from farm.plan.packages import toolchain
from farm.plan.placement import Machine, cpu_model
from farm.specs import Gpu
from farm.stages import Context, stage
from farm.store import Failure, Record, Store

Status = Literal["done", "failed", "input", "transient", "late", "blocked", "left"]


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    done: in the store. failed: recorded, it would fail again. input: the user's files are wrong.
    transient: worth another try. late: its time was up; only the next run tries it again.
    blocked: a step before it ended badly. left: no node here can do it, and what comes before was
    worth doing all the same.
    """

    key: str
    status: Status
    reason: str = ""
    seconds: float = 0.0


def perform(step: Step, root: str, echo: bool = False) -> Outcome:
    """Run the step unless it is in the store. echo: show its log on the terminal too."""
    store = Store(root)
    started = time.perf_counter()
    try:
        if store.record(step.ref):
            return Outcome(step.key, "done")
        folder = store.work_folder(step.key)
    except OSError as error:
        return ended(step, store, None, error, 0.0)
    log = folder / "step.log"
    try:
        with interrupts.handled(signal.SIGINT), same_folder(), output_to(log, echo), logs.in_full():
            record = _run(step, store, folder)
        store.publish(folder, record)
    except BaseException as error:  # a model's code and libraries raise anything; all is recorded
        if interrupts.from_outside(error):
            raise
        add_traceback(error, log, echo)
        return ended(step, store, log, error, time.perf_counter() - started)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(step.key, "done", seconds=time.perf_counter() - started)


def _run(step: Step, store: Store, folder: Path) -> Record:
    _reset_peak_memory()
    started = time.perf_counter()
    context = Context(store, folder, threads=step.needs.cpus)
    _check_node(step)
    try:
        figures = stage(step.stage)(step.inputs, context)
    except BaseException as error:
        for one in chain(error):  # what is finalised with their variables is said in the log
            traceback.clear_frames(one.__traceback__)
        raise
    return Record(
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
            "device": _device(step),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        code=step.code,
    )


def ended(
    step: Step, store: Store, log: Path | None, error: BaseException, seconds: float
) -> Outcome:
    """Record a failure that would repeat itself; keep only the log of any other."""
    try:
        return _recorded(step, store, log, error, seconds)
    except OSError as full:  # it cannot be recorded
        return Outcome(step.key, "transient", _reason(full, store), seconds)


def _recorded(
    step: Step, store: Store, log: Path | None, error: BaseException, seconds: float
) -> Outcome:
    if isinstance(error, TransientFailure | OSError) or out_of_memory(error):
        with suppress(OSError):  # on a full disk there is no room for the log either
            store.keep_log(step.key, log)
        return Outcome(step.key, "transient", _reason(error, store), seconds)
    reason = _reason(error, store)
    if isinstance(error, InputError):
        store.keep_log(step.key, log)
        return Outcome(step.key, "input", reason, seconds)
    return failed(step, store, log, reason, seconds)


def failed(step: Step, store: Store, log: Path | None, reason: str, seconds: float) -> Outcome:
    """The same inputs will always fail so: recorded, and shown again by the next run."""
    beside = [*log.parent.glob(dependencies.FILE)] if log else []
    store.record_failure(Failure(step.stage, step.key, step.label, reason), log, beside)
    return Outcome(step.key, "failed", reason, seconds)


def _reason(error: BaseException, store: Store) -> str:
    text, kind = text_of(error), kind_of(error)
    if isinstance(error, FarmError):
        return text
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full ({store.root}); free some space and run again"
    if isinstance(error, MemoryError):
        kind = "out of memory (MemoryError)"
    elif not isinstance(error, Exception):  # SystemExit, KeyboardInterrupt and the like
        kind = f"its code raised {kind}"
    return f"{kind}: {_one_line(text)}" if text else kind


def _one_line(text: str) -> str:
    """A library's message in one line, without the places in its own source code."""
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if line and not line.startswith("Exception from ")]
    return " ".join(told)[:300]


def _check_node(step: Step) -> None:
    versions = dict(toolchain(name for name, _ in step.toolchain))
    here = Machine(platform.node(), cpu_model(), versions, _own_gpus(step))
    if reason := step_unsupported(step, here):
        raise TransientFailure(reason)


def _own_gpus(step: Step) -> tuple[Gpu, ...]:
    """Those that a step on an accelerator may use, as the CUDA driver says; for others none is
    asked, since a process that asked CUDA once keeps what it saw. Raises TransientFailure."""
    if not step.needs.accelerator:
        return ()
    from farm.runtimes.tensorrt import cuda

    return cuda.gpus()[:1]


def _device(step: Step) -> str:
    return str(_own_gpus(step)[0]) if step.needs.accelerator else cpu_model()


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
