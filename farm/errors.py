"""The errors that people read: what is wrong, where, what was expected, what to do next."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator


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


class StepFailed(FarmError):
    """A stage failed for a reason that the same inputs will always give: recorded and shown."""


class TransientFailure(FarmError):
    """A stage failed for a reason of the moment (node lost, no memory): never recorded."""


# As torch, numpy, ONNX Runtime, OpenVINO, OpenCV, TensorRT and CUDA say it.
_NO_MEMORY = re.compile(
    r"out of memory|OutOfMemory|bad[_ ]alloc|insufficient memory|not enough memory"
    r"|memory allocation fail|cudaErrorMemoryAllocation|ALLOC_FAILED"
    r"|(can't|can ?not|could not|unable to|failed to) alloc",
    re.IGNORECASE,
)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, said by `error` itself or by what it was raised from."""
    return any(
        isinstance(one, MemoryError) or _NO_MEMORY.search(text_of(one)) for one in chain(error)
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
    """What the error says, every character printable: it may come from anybody's code."""
    try:
        text = str(error)
    except Exception as other:  # its own class cannot say it
        text = f"(its text cannot be had: {type(other).__name__})"
    return printable(text)


def printable(text: str) -> str:
    """What is no character to be seen, nor the end of a line, as Python writes it in a string."""
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def nearest(word: str, words: Iterable[str]) -> str:
    """'; did you mean X?' for the nearest of `words`, or their list where none is near."""
    known = sorted(words)
    if close := difflib.get_close_matches(word, known, n=1, cutoff=0.6):
        return f"; did you mean {close[0]!r}?"
    return f"; expected one of: {', '.join(known)}" if known else ""
