"""The errors that people read: what is wrong, where, what was expected, what to do next."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from farm import interrupts
from farm.terminal import plain

_LONGEST, _LONGEST_ERROR, _LONGEST_TEXT, _MOST_ERRORS, _MOST_WORDS = 80, 300, 50_000, 20, 40


class FarmError(Exception):
    """Any error that the farm explains by itself; shown without a stack trace."""


class InputError(FarmError):
    """The user's input is wrong: exit code 2. `where` is a file, `file:line`, or an option."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message, where)
        self.message, self.where = message, where

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class InputErrors(InputError):
    """Several wrong inputs at once, so that one run names them all."""

    def __init__(self, errors: Iterable[InputError]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


def together(errors: Iterable[InputError]) -> InputError:
    """One error that names them all, or the first 20 of many; no more than those are made."""
    found = list(itertools.islice(errors, _MOST_ERRORS + 1))
    if len(found) == 1:
        return found[0]
    if len(found) > _MOST_ERRORS:
        found[-1] = InputError("and more like these")
    return InputErrors(found)


class StepFailed(FarmError):
    """A stage failed for a reason that the same inputs will always give: recorded and shown."""


class WrongOutputs(StepFailed):
    """What an engine gives has not the form of detections."""


class LabelOutOfRange(WrongOutputs):
    """A box has a label that is none of the model's classes, which count from 0 on."""

    def __init__(self, label: int, classes: int, image: str) -> None:
        super().__init__(label, classes, image)
        self.label, self.classes, self.image = label, classes, image

    def __str__(self) -> str:
        return (
            f"it finds label {self.label} in {self.image}, and has {self.classes} classes, from 0"
            " on; give the model's own classes, or export it with its own config"
        )


class TransientFailure(FarmError):
    """A stage failed for a reason of the moment (node lost, no memory): never recorded."""


# As torch, numpy, ONNX Runtime, OpenVINO, OpenCV, TensorRT and CUDA say it.
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
    """Whether memory ran out, said by `error` itself or by what it was raised from."""
    return any(
        isinstance(one, MemoryError) or reports_no_memory(text_of(one)) for one in chain(error)
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """`error`, what it was raised from, and so on."""
    seen = set[int]()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        yield one
        seen.add(id(one))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def text_of(error: BaseException) -> str:
    """What the error says, of a bounded length and every character printable: it may come from
    anybody's code."""
    try:
        text = str(error)
    except BaseException as other:  # its own class cannot say it
        if interrupts.from_outside(other):
            raise
        text = f"(its text cannot be had: {kind_of(other)})"
    return plain(text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}...", "\n")


def kind_of(error: BaseException) -> str:
    """The name of its class, which the class itself may fail to say."""
    return str(type.__dict__["__name__"].__get__(type(error)))


def in_one_line(error: BaseException) -> str:
    """Its class and the beginning of its text, for errors of anybody's code."""
    return f"{kind_of(error)}: {' '.join(text_of(error).split())[:_LONGEST_ERROR]}"


def shown(value: Any) -> str:
    """What the user wrote, as an error quotes it: in one line, printable, not for pages."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or of levels
        return f"a huge {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def nearest(word: str, words: Iterable[str]) -> str:
    """'; did you mean X?' for the nearest of `words`, or their list where none is near."""
    known = sorted(words)
    folded = {name.casefold().strip(): name for name in reversed(known)}
    looked_for = word[:_LONGEST].casefold().strip()
    if close := difflib.get_close_matches(looked_for, folded, n=1, cutoff=0.6):
        return f"; did you mean {folded[close[0]]!r}?"
    more = ", ..." if len(known) > _MOST_WORDS else ""
    return f"; expected one of: {', '.join(known[:_MOST_WORDS])}{more}" if known else ""
