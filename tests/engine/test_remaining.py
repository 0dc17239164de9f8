"""The time left of a sweep, with a clock that counts: against what a real sweep has taken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import PROJECT

from farm.config.loader import load_matrix
from farm.config.measuring import CompareSpec
from farm.engine.estimates import Estimate, Estimates
from farm.engine.remaining import TimeLeft, comparisons_of
from farm.plan import make_plan
from farm.plan.steps import Plan, Step
from farm.specs import ModelFacts, Suppression

DURATIONS = json.loads((Path(__file__).parent / "demo_durations.json").read_text())
"""When each step of a run of `matrices/demo.yaml` began and ended, in seconds after its checks."""


@pytest.fixture(scope="module")
def plan() -> Plan:
    facts = ModelFacts(("circle",), False, "[]", suppression=Suppression(False, 0.5, 100))
    return make_plan(load_matrix(PROJECT / "matrices" / "demo.yaml"), lambda _: facts)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def replayed(plan: Plan, estimates: Estimates, how: CompareSpec) -> Iterator[tuple[float, float]]:
    """The estimate of the remaining time whenever a step of the recorded sweep has ended, with the
    time that it then really took to the end."""
    steps = {f"{one.stage} {one.label}": one for one in plan.steps.values()}
    recorded = {name: times for name, times in DURATIONS.items() if times[0] >= 0}
    estimates.add_plan(plan.steps)
    for name in DURATIONS.keys() - recorded.keys():  # the checks, which come before
        estimates.note(steps[name], DURATIONS[name][1] - DURATIONS[name][0], 0)
    recorded = {name: times for name, times in recorded.items() if name in steps}
    assert len(recorded) == sum(one.stage != "check" for one in plan.steps.values())
    clock, todo = Clock(), [steps[name] for name in recorded]
    left = TimeLeft(todo, estimates, 2, comparisons_of(plan, how), clock)
    end = max(ended for _, ended in DURATIONS.values())
    moments = [(began, 1, name) for name, (began, _) in recorded.items()]
    moments += [(ended, 0, name) for name, (_, ended) in recorded.items()]
    for now, begins, name in sorted(moments):
        clock.now, step = now, steps[name]
        if begins:
            left.started(step)
            continue
        seconds = now - recorded[name][0]
        estimates.note(step, seconds, 0)
        left.ended(step, seconds)
        yield left.seconds(), end - now


def test_the_time_left_is_within_half_of_the_truth_from_the_first_fifth_on(plan: Plan) -> None:
    """Where nothing was known before: neither the measurements, which come last and take half of
    the time, nor the comparisons, which are not planned yet."""
    found = list(replayed(plan, Estimates(), CompareSpec(seconds=0.6)))
    end = max(ended for _, ended in DURATIONS.values())
    judged = [(told, true) for told, true in found if true <= 0.8 * end]
    assert len(judged) > 50
    wrong = [(told, true) for told, true in judged if not true / 1.5 <= told <= 1.5 * true]
    assert wrong == []


def test_with_the_records_of_an_earlier_sweep_it_is_right_from_the_start(plan: Plan) -> None:
    estimates, how = Estimates(), CompareSpec(seconds=0.6)
    list(replayed(plan, estimates, how))
    estimates.known["compare/onestage"] = Estimate(14.0, 0)
    found = list(replayed(plan, Estimates(estimates.known), how))
    assert all(true / 1.5 <= told <= 1.5 * true for told, true in found)


def step_of(plan: Plan, stage: str) -> Step:
    return plan.of_stage(stage)[0]


def test_settings_say_what_a_measurement_takes_at_least() -> None:
    words = ["measure.seconds=30", "measure.throughput=20", "measure.warmup_seconds=5"]
    matrix = load_matrix(PROJECT / "matrices" / "demo.yaml", words)
    facts = ModelFacts(("circle",), False, "[]", suppression=Suppression(False, 0.5, 100))
    plan = make_plan(matrix, lambda _: facts)
    step = step_of(plan, "measure")
    # Records of shorter settings do not count.
    for known in ({}, {"measure/torch/onestage": Estimate(3.0, 0)}):
        estimates = Estimates(known)
        estimates.add_plan(plan.steps)
        assert TimeLeft([step], estimates, 2).seconds() == pytest.approx(55)


def test_steps_that_are_not_run_take_no_time(plan: Plan) -> None:
    steps, clock = plan.of_stage("evaluate")[:4], Clock()
    left = TimeLeft(steps, Estimates(), 2, clock=clock)
    whole = left.seconds()
    assert whole == pytest.approx(4 * 60 / 2)
    left.ended(steps[0], None)
    clock.now = 1.0
    assert left.seconds() == pytest.approx(whole * 3 / 4)


def test_what_runs_counts_as_far_as_it_has_run_and_the_pace_is_the_sweeps_own(plan: Plan) -> None:
    clock, estimates = Clock(), Estimates({"evaluate/*/onestage": Estimate(10.0, 0)})
    estimates.add_plan(plan.steps)
    steps = [one for one in plan.of_stage("evaluate") if one.label.startswith("onestage")]
    left = TimeLeft(steps, estimates, 2, clock=clock)
    assert left.seconds() == pytest.approx(14 * 10 / 2)
    left.started(steps[0])
    clock.now = 4.0
    assert left.seconds() == pytest.approx(14 * 10 / 2 - 2, rel=0.2)
    for step in steps[:12]:  # four at a time, as on two nodes of two cores
        left.ended(step, 10.0)
    clock.now = 30.0
    assert left.seconds() == pytest.approx(2 * 10 / 4, rel=0.2)


def test_a_model_whose_cells_were_measured_before_is_not_compared_again(plan: Plan) -> None:
    later = comparisons_of(plan, CompareSpec(seconds=10))
    assert [(one.kind.model, len(one.measures)) for one in later] == [
        ("onestage", 14), ("twostage", 14),
    ]  # fmt: skip
    assert comparisons_of(plan, None) == []
    one = [step for step in plan.of_stage("measure") if step.label.startswith("onestage")][:1]
    with_it = TimeLeft(one, Estimates(), 2, later).seconds()
    assert with_it - TimeLeft(one, Estimates(), 2).seconds() == pytest.approx(140)
