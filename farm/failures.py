"""The classes of failures, and which one an exception of a step means."""

from __future__ import annotations

from enum import Enum

from farm.errors import InputError, StepFailed, TransientFailure, out_of_memory


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
