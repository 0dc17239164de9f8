"""Errors for people: what is wrong, where, what was expected, and what to do; their classes."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any

from farm import interrupts
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.specs import Ref

_LONGEST, _LONGEST_ERROR, _LONGEST_TEXT, _MOST_ERRORS, _MOST_WORDS = 80, 300, 50_000, 20, 40


class FarmError(Exception):
    """An error whose message explains it; it is shown without a traceback."""


class InputError(FarmError):
    """The user's input is wrong: exit code 2. where: a file, `file:line`, or an option."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message, where)
        self.message, self.where = message, where

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class InputErrors(InputError):
    """Several input errors, so that one run names all of them."""

    def __init__(self, errors: Iterable[InputError]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


def together(errors: Iterable[InputError]) -> InputError:
    """Return one error that names all of them, or the first 20; no more are taken from `errors`."""
    found = list(itertools.islice(errors, _MOST_ERRORS + 1))
    if len(found) == 1:
        return found[0]
    if len(found) > _MOST_ERRORS:
        found[-1] = InputError("and more like these")
    return InputErrors(found)


class ClusterLost(FarmError):
    """Ray does not answer any more, so that no step can be started and none is heard of."""

    def __init__(self) -> None:
        super().__init__(
            "Ray does not answer any more: its head, or that of this machine, has ended or hangs. "
            "Finished steps are kept; the same command goes on from there, with a Ray that runs."
        )


class StepFailed(FarmError):
    """A stage failed for a reason that the same inputs will always give; the store records it."""


class WrongOutputs(StepFailed):
    """An engine's outputs do not have the form of detections."""


class LabelOutOfRange(WrongOutputs):
    """A box has a label that is no index of the model's classes."""

    def __init__(self, label: int, classes: int, image: str) -> None:
        super().__init__(label, classes, image)
        self.label, self.classes, self.image = label, classes, image

    def __str__(self) -> str:
        return (
            f"it finds label {self.label} in {self.image}, and has {self.classes} classes, from 0"
            " on; give the model's own classes, or export it with its own config"
        )


class TransientFailure(FarmError):
    """A stage failed for a temporary reason (a lost node, no memory); it is not recorded."""


class AlteredArtifact(TransientFailure):
    """An artifact that a step reads is not as its own step left it, which has to run again: the
    fault of neither. ref: that artifact. what: of it is altered, as `images.bin is altered`."""

    def __init__(self, ref: Ref, what: str) -> None:
        super().__init__(ref, what)
        self.ref, self.what = ref, what

    def __str__(self) -> str:
        step = f"{self.ref.stage} {self.ref.key[:12]}"
        return f"of {step}, which it reads, {self.what}; that step has to run again"


class EnvironmentFailed(TransientFailure):
    """An environment cannot be made, or lacks what steps need. It may succeed another day, with
    another index or network: a step that fails so is never recorded."""


# The messages of torch, numpy, ONNX Runtime, OpenVINO, OpenCV, TensorRT and CUDA.
_NO_MEMORY = re.compile(
    r"out of memory|OutOfMemory|bad[_ ]alloc|insufficient memory|not enough memory"
    r"|memory allocation fail|cudaErrorMemoryAllocation|ALLOC_FAILED"
    r"|cudaMalloc\b|(can't|can ?not|could not|unable to|failed to) (be )?alloc",
    re.IGNORECASE,
)


def reports_no_memory(text: str) -> bool:
    """Whether a library's message says that memory ran out, of the host or of a GPU."""
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


def shown(value: Any) -> str:
    """Return a value of the user's as errors quote it: one short, printable line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or of levels
        return f"a huge {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def nearest(word: str, words: Iterable[str]) -> str:
    """Return '; did you mean X?' for the most similar of `words`, else a list of them."""
    known = sorted(words)
    folded = {name.casefold().strip(): name for name in reversed(known)}
    wanted = word[:_LONGEST].casefold().strip()
    if close := difflib.get_close_matches(wanted, folded, n=1, cutoff=0.6):
        return f"; did you mean {folded[close[0]]!r}?"
    more = ", ..." if len(known) > _MOST_WORDS else ""
    return f"; expected one of: {', '.join(known[:_MOST_WORDS])}{more}" if known else ""
