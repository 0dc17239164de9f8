"""The errors that people read: what is wrong, where, what was expected, what to do next."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from typing import Any

_LONGEST, _MOST_ERRORS, _MOST_WORDS = 80, 20, 40


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


class TransientFailure(FarmError):
    """A stage failed for a reason of the moment (node lost, no memory): never recorded."""


def shown(value: Any) -> str:
    """What the user wrote, as an error quotes it: in one line, printable, not for pages."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def nearest(word: str, words: Iterable[str]) -> str:
    """'; did you mean X?' for the nearest of `words`, or their list where none is near."""
    known = sorted(words)
    if close := difflib.get_close_matches(word[:_LONGEST], known, n=1, cutoff=0.6):
        return f"; did you mean {close[0]!r}?"
    more = ", ..." if len(known) > _MOST_WORDS else ""
    return f"; expected one of: {', '.join(known[:_MOST_WORDS])}{more}" if known else ""
