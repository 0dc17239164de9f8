"""The errors that people read: what is wrong, where, what was expected, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


def nearest(word: str, words: Iterable[str]) -> str:
    """'; did you mean X?' for the nearest of `words`, or their list where none is near."""
    known = sorted(words)
    folded = {name.casefold().strip(): name for name in reversed(known)}
    if close := difflib.get_close_matches(word.casefold().strip(), folded, n=1, cutoff=0.6):
        return f"; did you mean {folded[close[0]]!r}?"
    return f"; expected one of: {', '.join(known)}" if known else ""
