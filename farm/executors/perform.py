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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from farm import terminal
from farm.errors import InputError, StepFailed, TransientFailure
from farm.plan import Step, gpus
from farm.plan.devices import cpu_model
from farm.plan.keys import canonical, toolchain
from farm.stages import Context, stage
from farm.store import Failure, Record, Store

# How torch's and ONNX Runtime's own errors say that memory ran out.
_NO_MEMORY = ("can't allocate memory", "bad_alloc", "bad allocation")

Status = Literal["done", "failed", "input", "transient", "blocked", "left"]


@dataclass(frozen=True)
class Outcome:
    """How a step ended. done: in the store. failed: recorded, it would fail again. input: the
    user's files are wrong. transient: worth another try. blocked: a step before it ended badly.
    left: no node here can do it, and what comes before was worth doing all the same.
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
        return _ended(step, store, None, error, 0.0)
    log = folder / "step.log"
    try:
        with _output_to(log, echo):
            _check_node(step)
            record = _run(step, store, folder)
        store.publish(folder, record)
    except Exception as error:  # a stage's own libraries raise anything; all of it is recorded
        return _ended(step, store, log, error, time.perf_counter() - started)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(step.key, "done", seconds=time.perf_counter() - started)


def _run(step: Step, store: Store, folder: Path) -> Record:
    _reset_peak_memory()
    started = time.perf_counter()
    context = Context(store, folder, threads=step.needs.cpus)
    try:
        figures = stage(step.stage)(step.inputs, context)
    except BaseException:
        traceback.print_exc()
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
    )


def _ended(
    step: Step, store: Store, log: Path | None, error: BaseException, seconds: float
) -> Outcome:
    """Record a failure that would repeat itself; keep only the log of any other."""
    if isinstance(error, InputError):
        store.keep_log(step.key, log)
        return Outcome(step.key, "input", str(error), seconds)
    if isinstance(error, StepFailed):
        reason = str(error)
    else:
        reason = f"{type(error).__name__}: {_one_line(str(error))}"
    passing = isinstance(error, TransientFailure | MemoryError | OSError)
    if not passing and not any(words in str(error) for words in _NO_MEMORY):
        store.record_failure(Failure(step.stage, step.key, step.label, reason), log)
        return Outcome(step.key, "failed", reason, seconds)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        reason = f"the disk is full ({store.root}); free some space and run again"
    with suppress(OSError):  # on a full disk there is no room for the log either
        store.keep_log(step.key, log)
    return Outcome(step.key, "transient", reason, seconds)


def _one_line(text: str) -> str:
    """A library's message in one line, without the places in its own source code."""
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if line and not line.startswith("Exception from ")]
    return " ".join(told)[:300]


def unfit(
    step: Step,
    host: str,
    device: str,
    versions: Mapping[str, str],
    its_gpus: Sequence[gpus.Gpu] = (),
) -> str | None:
    """Why a node cannot do the step as it was planned: the key names versions and a processor.

    its_gpus: () where they are not known.
    """
    for name, planned in step.toolchain:
        if versions.get(name) != planned:
            return (
                f"node {host} has {name} {versions.get(name)}, the plan was made with {planned}: "
                "install the same version on both"
            )
    target = getattr(step.inputs, "target", None)
    if target is not None and not target.accelerator and target.device != device:
        return (
            f"node {host} is {device}, target {target.name} is {target.device}: "
            "name the processor as `device` of a target of its own"
        )
    if target is not None and step.needs.accelerator and its_gpus:
        reasons = [gpus.refuses(target, gpu) for gpu in its_gpus]
        if None not in reasons:
            return f"node {host} {reasons[0]}: give these to a target of its own"
    return None


def _check_node(step: Step) -> None:
    here = dict(toolchain(name for name, _ in step.toolchain))
    if reason := unfit(step, platform.node(), cpu_model(), here, _own_gpus(step)):
        raise TransientFailure(reason)


def _own_gpus(step: Step) -> list[gpus.Gpu]:
    """Those that a step on an accelerator may use, as the CUDA driver says; for others none is
    asked, since a process that asked CUDA once keeps what it saw. Raises TransientFailure."""
    if not step.needs.accelerator:
        return []
    from farm.runtimes.trt import cuda

    return [gpus.Gpu(gpu.name, gpu.compute_capability, gpu.driver) for gpu in cuda.gpus()[:1]]


def _device(step: Step) -> str:
    return str(_own_gpus(step)[0]) if step.needs.accelerator else cpu_model()


@contextmanager
def _output_to(log: Path, echo: bool) -> Iterator[None]:
    """Everything written to stdout and stderr, native libraries' too, goes to the log."""
    with ExitStack() as stack:
        if echo:
            command = [sys.executable, "-I", terminal.__file__, str(log)]  # `tee`, but plain
            tee = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
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
