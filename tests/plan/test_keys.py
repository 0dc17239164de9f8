"""The text that keys are digests of: exactly the JSON of the canonical values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.plan import keys
from farm.plan.keys import canonical, canonical_text


class Word(str, Enum):
    A = "a"


@dataclass(frozen=True)
class One:
    value: Any


@dataclass(frozen=True)
class Unnamed:
    path: str = field(default="p", metadata={"key": False})


@dataclass(frozen=True)
class Many:
    """Its fields are not in the order of their names."""

    value: Any
    name: str = field(default="n", metadata={"key": False})
    more: tuple[Any, ...] = ()
    later: Any = field(default=None, metadata={"default_in_key": False})
    last: Any = field(default="", metadata={"default_in_key": False})


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
plain |= st.text() | st.just(Word.A)
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(), inner)
        | st.builds(One, inner)
        | st.builds(Unnamed, st.text())
        | st.builds(Many, inner, st.text(), st.tuples(inner), inner, inner)
    ),
    max_leaves=12,
)


def dumped(value: Any) -> str:
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


@given(values)
def test_the_text_is_the_json_of_the_canonical_values(value: Any) -> None:
    assert canonical_text(value) == dumped(value) == canonical_text(value)


@pytest.mark.parametrize("value", [float("nan"), (1, float("inf")), One(float("-inf")), {"a": 1j}])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        canonical_text(value)


def test_what_is_remembered_is_bounded_and_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_MOST_KNOWN", 3)
    keys._KNOWN.clear()
    for number in range(10):  # each is gone when the next one takes its place, perhaps its id
        value = Many(number, more=(One(number),))
        assert canonical_text(value) == dumped(value)
        assert len(keys._KNOWN) <= 3
