"""Requests that are made at the same time."""

from __future__ import annotations

import threading
import time

import pytest

from farm.store.objects import at_once


@pytest.mark.parametrize("count", [0, 1, 2, 3, 40])
def test_each_value_has_its_answer_in_the_same_order(count: int) -> None:
    asked = list[int]()

    def answer(value: int) -> int:
        asked.append(value)
        return value * value

    assert at_once(answer, iter(range(count))) == [value * value for value in range(count)]
    assert sorted(asked) == [*range(count)]


def test_two_are_asked_at_the_same_time() -> None:
    both = threading.Barrier(2)
    at_once(lambda _: both.wait(60), range(2))


def test_after_an_error_no_more_are_asked() -> None:
    asked = list[int]()

    def answer(value: int) -> None:
        asked.append(value)
        time.sleep(0.01)
        raise OSError("503")

    with pytest.raises(OSError, match="503"):
        at_once(answer, range(200))
    assert len(asked) < 200
