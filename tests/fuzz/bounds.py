"""How many examples a property is tried with, and what holds for each: it ends, leaving nothing."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from farm.errors import InputError

EXAMPLES = int(os.environ.get("FARM_FUZZ", "300"))
"""Of each property: the same 300 in every test run, 10,000 new ones by `make fuzz`."""

LONGEST_SECONDS = 60
TEXT = st.text(max_size=12) | st.text(st.characters(codec="utf-8"), max_size=6)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(
        ["", "null", "${X}", "${", "1e400", "1GiB", "1x3x1x1", "__main__:f", "a" * 300]
    )
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def fuzzed(
    *strategies: st.SearchStrategy[Any], share: float = 1
) -> Callable[[Callable[..., None]], Any]:
    """Calls a test with its share of the examples of a kind of input.

    One that hangs, be it in C, ends the process with a trace.
    """

    def decorate(test: Callable[..., None]) -> Any:
        @functools.wraps(test)
        def bounded(*arguments: Any, **fixtures: Any) -> None:
            faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True, file=sys.__stderr__)
            try:
                test(*arguments, **fixtures)
            finally:
                faulthandler.cancel_dump_traceback_later()

        how = settings(
            max_examples=math.ceil(share * EXAMPLES),
            derandomize=EXAMPLES == 300,
            database=None,
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            deadline=10_000,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        )
        return how(given(*strategies)(bounded))

    return decorate


@contextlib.contextmanager
def leaving_no_trace(folder: Path) -> Iterator[None]:
    """Nothing is written into `folder`, which is the current one meanwhile."""
    before = listing(folder)
    with contextlib.chdir(folder) if sys.version_info >= (3, 11) else _chdir(folder):
        yield
    assert listing(folder) == before


@contextlib.contextmanager
def _chdir(folder: Path) -> Iterator[None]:
    old = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(old)


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_size) for path in folder.rglob("*"))


def reason(error: InputError) -> str:
    """What is said: something, and not for pages."""
    text = str(error)
    assert text.strip() and len(text) < 20_000
    return text


def printable(error: InputError) -> str:
    """`reason`, of which no character acts on a terminal."""
    text = reason(error)
    assert text.replace("\n", "").isprintable(), ascii(text)
    return text
