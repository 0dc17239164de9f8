"""When a step goes: after its parents, and the longest critical path first."""

from __future__ import annotations

import pytest
from test_scheduler import step, steps

from farm.engine.estimates import Estimate, Estimates
from farm.engine.order import LOSSES, TRIES, Dependencies, Order, Tries
from farm.engine.status import Outcome, StepStatus
from farm.failures import FailureKind

CHAIN = steps(step("a"), step("b", "a"), step("c", "b"))


@pytest.mark.parametrize("seconds", [5.0, 0.25])
def test_a_critical_path_is_the_step_and_the_longest_chain_after_it(seconds: float) -> None:
    plan = steps(step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"), step("e"))
    order = Order(plan, Estimates({"export": Estimate(seconds, 0)}))
    assert order.renew()
    paths = {key: order.critical_path_s(one) / seconds for key, one in plan.items()}
    assert paths == {"a": 3, "b": 2, "c": 2, "d": 1, "e": 1}


def test_a_step_of_which_nothing_is_known_goes_before_all_others() -> None:
    own, estimates = step("a"), Estimates()
    order = Order(steps(own), estimates)
    assert order.renew()
    unknown_s = order.critical_path_s(own)
    estimates.note(own, 5000.0, 0)
    assert order.renew() and order.critical_path_s(own) == 5000.0 < unknown_s


def test_the_order_is_made_anew_only_where_other_durations_are_expected() -> None:
    estimates = Estimates()
    order = Order(CHAIN, estimates)
    assert order.renew() and not order.renew()
    estimates.note(CHAIN["a"], 2.0, 0)
    assert order.renew() and not order.renew()


def test_a_step_is_ready_once_its_last_parent_has_ended() -> None:
    plan = steps(step("a"), step("b"), step("c", "a", "b"))
    found = Dependencies(plan)
    assert [one.key for one in found.children("a")] == ["c"] and not [*found.children("c")]
    assert found.is_ready(plan["a"], ())
    assert not found.is_ready(plan["c"], ())
    assert not found.parent_ended(plan["c"]) and found.parent_ended(plan["c"])
    assert found.is_ready(plan["c"], {"a", "b"})


def test_a_step_waits_again_for_a_parent_that_runs_again_if_it_was_counted() -> None:
    found = Dependencies(CHAIN)
    assert not found.parent_runs_again(CHAIN["c"])
    assert found.is_ready(CHAIN["c"], {"b"})
    assert found.parent_runs_again(CHAIN["c"])
    assert found.parent_ended(CHAIN["c"])


def test_a_parent_that_is_not_planned_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="export B waits for a step that is not planned"):
        Dependencies(steps(CHAIN["b"])).is_ready(CHAIN["b"], ())


def lost(key: str = "a") -> Outcome:
    return Outcome(key, StepStatus.TRANSIENT, "lost", lost=True)


def failed(kind: FailureKind | None = None) -> Outcome:
    return Outcome("a", StepStatus.TRANSIENT, "why", kind=kind)


def test_a_lost_step_waits_twice_as_long_each_time_and_any_other_not_at_all() -> None:
    tries = Tries()
    pauses = [(tries.allow_another(lost()), tries.pause_s(lost())) for _ in range(LOSSES)]
    assert pauses == [(True, 1.0), (True, 2.0), (True, 4.0), (True, 8.0), (False, 16.0)]
    assert tries.allow_another(failed()) is False  # it was lost too often
    assert Tries().pause_s(failed()) == 0.0


def test_a_step_has_three_tries_and_one_that_kills_its_workers_two() -> None:
    tries = Tries()
    assert "a" not in tries
    assert [tries.allow_another(failed(FailureKind.IO)) for _ in range(TRIES)] == [
        True,
        True,
        False,
    ]
    assert "a" in tries and "b" not in tries
    for kind in (FailureKind.CRASH, FailureKind.OOM):
        killer = Tries()
        assert [killer.allow_another(failed(kind)) for _ in range(2)] == [True, False]
    assert not Tries().allow_another(Outcome("a", StepStatus.FAILED, "why"))
    one = Tries()
    assert one.allow_another(lost()) and "a" in one


def test_the_tries_of_one_step_are_none_of_another() -> None:
    tries = Tries()
    for _ in range(LOSSES):
        tries.allow_another(lost())
    assert tries.allow_another(lost("b")) and tries.pause_s(lost("b")) == 1.0
