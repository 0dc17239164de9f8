"""When a step goes: after its parents, and the longest critical path first."""

from __future__ import annotations

import pytest
from test_scheduler import step, steps

from farm.engine.estimates import Estimate, Estimates
from farm.engine.order import Dependencies, Order

CHAIN = steps(step("a"), step("b", "a"), step("c", "b"))


def test_a_critical_path_is_the_step_and_the_longest_chain_after_it() -> None:
    plan = steps(step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"), step("e"))
    order = Order(plan, Estimates({"export": Estimate(5.0, 0)}))
    assert order.renew()
    paths = {key: order.critical_path_s(one) for key, one in plan.items()}
    assert paths == {"a": 15.0, "b": 10.0, "c": 10.0, "d": 5.0, "e": 5.0}


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
