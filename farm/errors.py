"""Errors for people: what is wrong, where, what was expected, and what to do."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farm.specs import Ref

_LONGEST, _MOST_ERRORS, _MOST_WORDS = 80, 20, 40


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
