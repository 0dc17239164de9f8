"""What an exception of a step means, and its text, whatever code has raised it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

from farm import interrupts
from farm.errors import InputError, StepFailed, TransientFailure
from farm.terminal import plain

_LONGEST_ERROR, _LONGEST_TEXT = 300, 50_000

# The messages of torch, numpy, ONNX Runtime, OpenVINO, OpenCV, TensorRT and CUDA.
_NO_MEMORY = re.compile(
    r"out of memory|OutOfMemory|bad[_ ]alloc|insufficient memory|not enough memory"
    r"|memory allocation fail|cudaErrorMemoryAllocation|ALLOC_FAILED"
    r"|cudaMalloc\b|(can't|can ?not|could not|unable to|failed to) (be )?alloc",
    re.IGNORECASE,
)


def reports_no_memory(text: str) -> bool:
    """Return whether a library's message says that memory ran out, of the host or of a GPU."""
    return _NO_MEMORY.search(text) is not None


def out_of_memory(error: BaseException) -> bool:
    """Return whether `error`, or an error that it was raised from, says that memory ran out."""
    return any(
        isinstance(one, MemoryError) or reports_no_memory(text_of(one)) for one in chain(error)
    )


class FailureKind(str, Enum):
    """The class of a failure, in records, leaderboards and MLflow."""

    CRASH = "crash"
    """The code of the step ended its process, or a native library did."""

    OOM = "oom"
    """Memory ran out, of the host or of a GPU."""

    TIMEOUT = "timeout"
    """The step reached its time limit."""

    NODE_LOST = "node_lost"
    """The node or its worker was lost, or is no longer what the step needs."""

    IO = "io"
    """A file could not be read or written, for instance because the disk is full."""

    UNSUPPORTED = "unsupported"
    """The exporter or the runtime does not support the model."""

    MISMATCH = "mismatch"
    """The engine is another detector than PyTorch's."""

    BAD_INPUT = "bad_input"
    """The user's files are wrong."""

    BUG = "bug"
    """An error that nobody has foreseen, of the farm, a library or the model's own code."""

    __str__ = str.__str__  # the value; Python 3.12 would otherwise format the member's name


def failure_kind(error: BaseException) -> FailureKind:
    """Return the class of the failure that an exception of a step means."""
    if out_of_memory(error):
        return FailureKind.OOM
    if isinstance(error, InputError):
        return FailureKind.BAD_INPUT
    if isinstance(error, TransientFailure):
        return FailureKind.NODE_LOST
    if isinstance(error, OSError):
        return FailureKind.IO
    if isinstance(error, StepFailed):
        return FailureKind.UNSUPPORTED
    return FailureKind.BUG if isinstance(error, Exception) else FailureKind.CRASH


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, the error that it was raised from, and so on."""
    seen = set[int]()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        yield one
        seen.add(id(one))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def text_of(error: BaseException) -> str:
    """Return the error's text, of a bounded length and printable: any code may have raised it."""
    try:
        text = str(error)
    except BaseException as other:  # raised by the error's own class
        if interrupts.from_outside(other):
            raise
        text = f"(its text cannot be read: {class_name(other)})"
    return plain(text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}...", "\n")


def class_name(error: BaseException) -> str:
    """Return the name of its class, without any code of that class."""
    return str(type.__dict__["__name__"].__get__(type(error)))


def in_one_line(error: BaseException) -> str:
    """Return its class and the beginning of its text, for errors that any code may have raised."""
    return f"{class_name(error)}: {' '.join(text_of(error).split())[:_LONGEST_ERROR]}"
