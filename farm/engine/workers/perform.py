"""Perform one step in this process: run its stage, then publish its artifact or its failure."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import signal
import time
import traceback
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from farm import interrupts
from farm.engine.status import Outcome, StepStatus
from farm.engine.workers.inputs import unchanged
from farm.engine.workers.memory import peak_bytes, reset_peak
from farm.engine.workers.output import add_traceback, output_to, same_folder, this_process
from farm.errors import AlteredArtifact, FarmError, InputError, TransientFailure
from farm.failures import FailureKind, chain, class_name, failure_kind, text_of
from farm.measuring.gpu_memory import watched_gpu_memory
from farm.plan.content import dependencies
from farm.plan.content.packages import toolchain
from farm.plan.keys import canonical
from farm.plan.machines.placement import Machine, cpu_model, step_unsupported
from farm.stages import Context, stage
from farm.store import Failure, Record, Store
from farm.store.records import PEAK_GPU
from farm.terminal import logs

if TYPE_CHECKING:
    from farm.plan.steps import Step
    from farm.specs import Gpu


def perform(
    step: Step, root: str, echo: bool = False, folder: Path | None = None, gpu_share: float = 1.0
) -> Outcome:
    """Run the step unless it is in the store, and return how it ended.

    root: the store's folder. echo: show the step's log on the terminal too. folder: the step's
    working folder, which is then its owner's to remove. gpu_share: as of `Limit`.

    Raises:
        Interrupted: the user or the system ends this process; nothing else is raised.
    """
    store, started = store_at(root), time.perf_counter()
    try:
        if store.record(step.ref):
            return Outcome(step.key, StepStatus.DONE)
        own = folder is None
        folder = folder or store.work_folder(step.key)
    except OSError as error:
        return outcome_of(step, store, None, error, 0.0)
    text = folder / "step.log"
    try:
        with (
            interrupts.handled(signal.SIGINT),
            same_folder(),
            output_to(text, echo),
            logs.in_full(),
            this_process(),
        ):
            record = _run(step, store, folder, gpu_share)
        store.publish(folder, record)
    except BaseException as error:  # a model's code may raise anything
        if interrupts.from_outside(error):
            raise
        add_traceback(error, text, echo)
        return outcome_of(step, store, text, error, time.perf_counter() - started)
    finally:
        if own:
            shutil.rmtree(folder, ignore_errors=True)
    seconds = time.perf_counter() - started
    memory, gpu = record.peak_host_bytes, record.peak_gpu_bytes
    return Outcome(step.key, StepStatus.DONE, seconds=seconds, memory_bytes=memory, gpu_bytes=gpu)


@cache
def store_at(root: str) -> Store:
    """Return the store in a folder; the same for every step of this process."""
    return Store(root)


def _run(step: Step, store: Store, folder: Path, gpu_share: float) -> Record:
    reset_peak()
    started = time.perf_counter()
    context = Context(store, folder, threads=step.needs.cpus)
    _check_node(step)
    try:
        with (
            unchanged(step.inputs, store.root),
            watched_gpu_memory(step.needs.shares_gpu, gpu_share == 1.0) as peak,
        ):
            figures = stage(step.stage)(step.inputs, context)
    except BaseException as error:
        # What their variables print when they are finalised is then in the log.
        for one in chain(error):
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
        peak_host_bytes=peak_bytes(),
        node={
            "host": platform.node(),
            "device": _device(step),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            **({PEAK_GPU: peak.bytes} if peak.bytes else {}),
        },
        code=step.code,
        parents=context.parents,
        ended=time.time(),
    )


def outcome_of(
    step: Step, store: Store, log: Path | None, error: BaseException, seconds: float
) -> Outcome:
    """Record a failure that would repeat itself; of any other keep only the log.

    log: the step's log, if there is one. Returns the outcome that `error` means.
    """
    try:
        return _recorded(step, store, log, error, seconds)
    except OSError as full:  # it cannot be recorded
        reason = _reason(full, store)
        return Outcome(step.key, StepStatus.TRANSIENT, reason, seconds, FailureKind.IO)


def _recorded(
    step: Step, store: Store, log: Path | None, error: BaseException, seconds: float
) -> Outcome:
    kind, reason = failure_kind(error), _reason(error, store)
    if isinstance(error, TransientFailure | OSError) or kind is FailureKind.OOM:
        with suppress(OSError):  # on a full disk there is no room for the log either
            store.keep_log(step.key, log)
        altered = error.ref if isinstance(error, AlteredArtifact) else None
        return Outcome(step.key, StepStatus.TRANSIENT, reason, seconds, kind, altered)
    if isinstance(error, InputError):
        store.keep_log(step.key, log)
        return Outcome(step.key, StepStatus.INVALID_INPUT, reason, seconds, kind)
    return record_failure(step, store, log, reason, seconds, kind)


def record_failure(
    step: Step,
    store: Store,
    log: Path | None,
    reason: str,
    seconds: float,
    kind: FailureKind,
    limit: float = 0.0,
) -> Outcome:
    """Record a failure that the same inputs will always give; the next run shows it again.

    limit: the limit that the step has reached, in seconds or bytes.

    Raises:
        OSError: it cannot be written.
    """
    beside = [*log.parent.glob(dependencies.FILE)] if log else []
    failure = Failure(
        step.stage, step.key, step.label, reason, kind, limit, seconds, ended=time.time()
    )
    store.record_failure(failure, log, beside)
    return Outcome(step.key, StepStatus.FAILED, reason, seconds, kind)


def _reason(error: BaseException, store: Store) -> str:
    text, kind = text_of(error), class_name(error)
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
    """A library's message in one line, without the lines that name its own source code."""
    lines = [line.strip() for line in text.splitlines()]
    useful = [line for line in lines if line and not line.startswith("Exception from ")]
    return " ".join(useful)[:300]


def _check_node(step: Step) -> None:
    versions = dict(toolchain(name for name, _ in step.toolchain))
    environment = step.environment.digest if step.environment else ""
    gpus = _own_gpus(step)
    here = Machine(platform.node(), cpu_model(), versions, gpus, environment=environment)
    if reason := step_unsupported(step, here):
        raise TransientFailure(reason)


def _own_gpus(step: Step) -> tuple[Gpu, ...]:
    """The GPU that a step on an accelerator may use, as the CUDA driver names it.

    For other steps the driver is not called: a process that has called CUDA once keeps the GPUs
    that it saw then.

    Raises:
        TransientFailure: the driver cannot be used.
    """
    if not step.needs.accelerator:
        return ()
    from farm.runtimes.tensorrt import cuda

    return cuda.gpus()[:1]


def _device(step: Step) -> str:
    return str(_own_gpus(step)[0]) if step.needs.accelerator else cpu_model()
