"""What is known of steps, what a run is to do, and that `run_steps` does just that."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_scheduler import Notes, Scripted, finish, statuses, step, steps

from farm.engine.estimates import Estimates
from farm.engine.known import known_outcomes, steps_to_do
from farm.engine.scheduler import run_steps
from farm.engine.workers.limits import Limits
from farm.failures import FailureKind
from farm.store import Failure, Store

PLAN = steps(step("a"), step("b", "a"), step("c", "b"), step("d"), step("e", "d"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "store")
    finish(found, "d")
    return found


def fail(store: Store, key: str, kind: FailureKind, limit: float = 0.0) -> None:
    store.record_failure(Failure("export", key, key, "why", kind, limit), None)


def both(store: Store, limits: Limits, retry_failed: bool = False) -> list[str]:
    """The steps that are to be done, which are those that a run then does."""
    todo = [one.key for one in steps_to_do(PLAN, store, limits, retry_failed)]
    executor = Scripted()
    run_steps(PLAN, store, lambda: executor, Notes(), retry_failed, limits)
    assert sorted(executor.taken) == sorted(todo)
    return todo


def test_what_waits_for_a_failure_is_not_to_be_done(store: Store) -> None:
    fail(store, "a", FailureKind.UNSUPPORTED)
    known = known_outcomes(PLAN, store, Limits(), retry_failed=False)
    assert statuses(known) == {"a": "failed", "b": "blocked", "c": "blocked", "d": "done"}
    assert {known[key].reason for key in "abc"} == {"why"}
    assert both(store, Limits()) == ["e"] == [one.key for one in steps_to_do(PLAN, store, Limits())]
    assert both(store, Limits(), retry_failed=True) == ["a", "b", "c", "e"]


@pytest.mark.parametrize(
    ("kind", "limit", "limits", "again"),
    [
        (FailureKind.TIMEOUT, 60.0, Limits({"export": 60.0}), False),
        (FailureKind.TIMEOUT, 60.0, Limits({"export": 61.0}), True),
        (FailureKind.TIMEOUT, 60.0, Limits({"build": 61.0, "export": 30.0}), False),
        (FailureKind.OOM, 2e9, Limits(memory_bytes=2 * 10**9), False),
        (FailureKind.OOM, 2e9, Limits(memory_bytes=3 * 10**9), True),
        (FailureKind.OOM, 0.0, Limits(memory_bytes=1), True),
        (FailureKind.NODE_LOST, 0.0, Limits(), True),
        (FailureKind.IO, 0.0, Limits(), True),
        (FailureKind.CRASH, 0.0, Limits({"export": 1e9}), False),
        (FailureKind.BUG, 0.0, Limits(memory_bytes=1 << 50), False),
    ],
)
def test_a_failure_is_tried_again_where_it_need_not_repeat_itself(
    store: Store, kind: FailureKind, limit: float, limits: Limits, again: bool
) -> None:
    fail(store, "a", kind, limit)
    assert both(store, limits) == (["a", "b", "c", "e"] if again else ["e"])
    assert (store.failure("a") is None) is again


def test_nothing_is_started_where_failures_hold_all_the_rest_back(store: Store) -> None:
    fail(store, "a", FailureKind.UNSUPPORTED)
    finish(store, "e")

    def start() -> Scripted:
        raise AssertionError("an executor takes seconds to start")

    outcomes = run_steps(PLAN, store, start, Notes())
    assert statuses(outcomes)["c"] == "blocked"


def test_the_order_is_by_what_the_steps_that_are_done_have_taken(store: Store) -> None:
    estimates, one = Estimates(), step("d")
    assert not estimates.knows(one)
    run_steps(steps(one), store, Scripted, Notes(), estimates=estimates)
    assert estimates.knows(one) and estimates.seconds(one) == 1.0


def test_a_failure_says_nothing_of_what_a_step_takes(store: Store) -> None:
    fail(store, "a", FailureKind.CRASH)
    estimates, one = Estimates(), step("a")
    found = run_steps(steps(one), store, Scripted, Notes(), estimates=estimates)
    assert found["a"].status == "failed" and not estimates.knows(one)
