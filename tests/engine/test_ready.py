"""The steps that are ready: which is offered, which waits, and for how long."""

from __future__ import annotations

import pytest
from test_scheduler import step

from farm.engine import ready
from farm.engine.ready import ReadySteps
from farm.plan.steps import Needs, Step

GPU = Needs(accelerator="L4")
ALONE = Needs(exclusive=True)


def of(**paths: float) -> ReadySteps:
    """No steps yet; the critical paths of those to come, in seconds."""
    return ReadySteps(lambda one: paths.get(one.key, 0.0))


def offered(steps: ReadySteps) -> list[str]:
    """The keys of all that is offered, each of which is taken."""
    found = []
    for one in steps.offered():
        steps.take(one)
        found.append(one.key)
    return found


def test_the_longest_path_is_first_of_a_gpus_steps_then_of_others_and_last_of_those_alone() -> None:
    steps = of(a=1, b=3, c=2, d=9, e=1)
    for key, needs in (("a", None), ("b", None), ("c", None), ("d", ALONE), ("e", GPU)):
        steps.add(step(key, needs=needs))
    assert offered(steps) == ["e", "b", "c", "a", "d"] and not steps.steps()


def test_steps_with_the_same_path_go_in_the_order_in_which_they_became_ready() -> None:
    steps = of()
    for key in "cab":
        steps.add(step(key))
    assert offered(steps) == ["c", "a", "b"]


def test_paths_that_change_change_the_order() -> None:
    paths = {"a": 2.0, "b": 1.0}
    steps = ReadySteps(lambda one: paths[one.key])
    for key in paths:
        steps.add(step(key))
    paths["b"] = 5.0
    steps.reorder()
    assert offered(steps) == ["b", "a"]


def test_where_there_is_no_room_others_of_the_kind_are_not_offered() -> None:
    steps = of(a=3, b=2)
    for key, needs in (("a", None), ("b", None), ("g", GPU)):
        steps.add(step(key, needs=needs))
    found = []
    for one in steps.offered():
        found.append(one.key)
        if one.key == "a":
            steps.declare_full(one)
        else:
            steps.take(one)
    assert found == ["g", "a"]
    assert [one.key for one in steps.steps()] == ["a", "b"]
    assert offered(steps) == ["a", "b"]


def test_a_step_that_is_put_off_is_offered_again_when_its_time_has_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ready, "_PUT_OFF_S", 0.05)
    steps, slept = of(), list[Step]()
    steps.add(step("a"))
    for one in steps.offered():
        steps.put_off(one)
    assert not offered(steps)
    assert steps.wait_idly() == slept
    assert offered(steps) == ["a"]


def test_a_step_that_no_node_takes_is_given_up_after_a_while_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ready, "_NODE_S", 0.2)
    monkeypatch.setattr(ready, "_IDLE_S", 0.15)
    steps, one = of(), step("a")
    steps.add(one)
    assert steps.wait_idly() == [] and steps.steps() == [one]
    steps.idle_since = None  # something has run meanwhile
    assert steps.wait_idly() == [] and steps.wait_idly() == []
    assert steps.wait_idly() == [one] and not steps.steps()


def test_a_step_that_is_withdrawn_is_offered_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "_PUT_OFF_S", 0.0)
    steps, early, late = of(), step("a"), step("b")
    steps.add(early)
    steps.add(late, pause_s=0.01)
    steps.withdraw(early)
    steps.withdraw(late)
    assert not offered(steps)
    with pytest.raises(RuntimeError, match="no step can go on, and none is ready"):
        steps.wait_idly()


def test_that_another_sweep_is_waited_for_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said = list[str]()
    monkeypatch.setattr(ready.log, "info", said.append)
    monkeypatch.setattr(ready, "_PUT_OFF_S", 0.01)
    steps = of()
    steps.add(step("lost"), pause_s=0.01)  # it waits for no other sweep
    steps.wait_idly()
    assert offered(steps) == ["lost"] and not said
    for key in "ab":
        steps.add(step(key))
        for one in steps.offered():
            steps.put_off(one)
        steps.wait_idly()
        assert offered(steps) == [key]
        assert said == ["Another sweep is running steps of this one; waiting for it."]
