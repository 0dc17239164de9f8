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
from farm.plan.comparisons import Candidate, with_comparisons
from farm.plan.steps import Plan, Step
from farm.specs import ModelFacts, Suppression

FACTS = ModelFacts(("circle",), False, "[]", suppression=Suppression(0.5, False, 100))
HOW = CompareSpec(seconds=0.6)


def demo(*overrides: str) -> Plan:
    return make_plan(load_matrix(PROJECT / "matrices" / "demo.yaml", overrides), lambda _: FACTS)


@dataclass(frozen=True)
class Recorded:
    """A sweep that was run: when each step began and ended, in seconds after the models' checks.

    slots: how many of its steps ran at a time.
    """

    file: str
    overrides: tuple[str, ...]
    slots: int

    @property
    def durations(self) -> dict[str, tuple[float, float]]:
        path = Path(__file__).parent / "durations" / self.file
        return {
            name: (began, ended) for name, (began, ended) in json.loads(path.read_text()).items()
        }

    @property
    def end(self) -> float:
        return max(ended for _, ended in self.durations.values())


RAY = Recorded("ray.json", (), 2)
QUIET = Recorded("quiet.json", (), 2)  # a machine that did nothing else
INLINE = Recorded("inline.json", ("shapes={fixed: {opt: 160x160}}",), 1)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return demo()


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def replayed(sweep: Recorded, estimates: Estimates) -> Iterator[tuple[float, float]]:
    """The estimate of the remaining time whenever a step of the sweep has ended, with the time that
    it then really took to the end."""
    plan, durations, end = demo(*sweep.overrides), sweep.durations, sweep.end
    steps = {f"{one.stage} {one.label}": one for one in plan.steps.values()}
    assert steps.keys() <= durations.keys()  # the comparisons are not planned yet
    estimates.add_plan(plan.steps)
    clock, todo = Clock(), [step for step in steps.values() if step.stage != "check"]
    left = TimeLeft(todo, estimates, sweep.slots, comparisons_of(plan, HOW), clock)
    moments = [(began, 1, name) for name, (began, _) in durations.items() if name in steps]
    moments += [(ended, 0, name) for name, (_, ended) in durations.items() if name in steps]
    for now, begins, name in sorted(moments):
        clock.now, step = now, steps[name]
        seconds = now - durations[name][0]
        if step.stage == "check":  # ended before the others began
            if not begins:
                estimates.note(step, seconds, 0)
        elif begins:
            left.started(step)
        else:
            estimates.note(step, seconds, 0)
            left.ended(step, seconds)
            yield left.seconds(), end - now


@pytest.mark.parametrize("sweep", [RAY, QUIET, INLINE], ids=["ray", "quiet", "inline"])
def test_the_time_left_is_within_half_of_the_truth_from_the_first_fifth_on(sweep: Recorded) -> None:
    """Where nothing was known before: neither the measurements, which come last and take half of
    the time, nor the comparisons, which are not planned yet."""
    found = [(told, true) for told, true in replayed(sweep, Estimates()) if true <= 0.8 * sweep.end]
    assert len(found) > 40
    assert [(told, true) for told, true in found if not true / 1.5 <= told <= 1.5 * true] == []


def test_with_the_records_of_an_earlier_sweep_it_is_right_from_the_start() -> None:
    estimates = Estimates()
    list(replayed(RAY, estimates))
    estimates.known["compare/onestage"] = Estimate(14.0, 0)
    found = list(replayed(RAY, Estimates(estimates.known)))
    assert all(true / 1.5 <= told <= 1.5 * true for told, true in found)


def test_steps_of_pytorch_itself_are_of_their_own_model(plan: Plan) -> None:
    """Their images may be another model's, too."""
    estimates = Estimates()
    estimates.add_plan(plan.steps)
    of_torch = [step for step in plan.of_stage("measure") if "torch" in step.label]
    models = {estimates.kind(step).model for step in of_torch}
    assert models == {"onestage", "twostage"}
    assert all(step.label.startswith(str(estimates.kind(step).model)) for step in of_torch)


def step_of(plan: Plan, stage: str) -> Step:
    return plan.of_stage(stage)[0]


def test_settings_say_what_a_measurement_takes_at_least() -> None:
    words = ("measure.seconds=30", "measure.throughput=20", "measure.warmup_seconds=5")
    plan = demo(*words)
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


def test_an_engine_is_compared_where_there_is_another_of_its_model() -> None:
    words = ("opsets=[17]", "shapes={fixed: {opt: 160x160}}")
    one, two = (demo(*words, f"runtimes=[{names}]") for names in ("torch", "torch, onnxruntime"))
    assert comparisons_of(one, HOW) == []
    assert [len(found.measures) for found in comparisons_of(two, HOW)] == [2, 2]


def test_a_model_whose_cells_were_measured_before_is_not_compared_again(plan: Plan) -> None:
    later = comparisons_of(plan, CompareSpec(seconds=10))
    assert [(one.kind.model, len(one.measures)) for one in later] == [
        ("onestage", 14), ("twostage", 14),
    ]  # fmt: skip
    assert comparisons_of(plan, None) == []
    one = [step for step in plan.of_stage("measure") if step.label.startswith("onestage")][:1]
    with_it = TimeLeft(one, Estimates(), 2, later).seconds()
    assert with_it - TimeLeft(one, Estimates(), 2).seconds() == pytest.approx(140)


WORDS = ("measure.seconds=4.5", "measure.throughput=4.5", "measure.warmup_seconds=1")
"""With them a measurement of which nothing is known takes ten seconds."""


def test_work_that_must_be_alone_and_is_done_faster_than_that_speeds_all_up() -> None:
    """Two measurements at a time, as on two nodes."""
    steps, clock = demo(*WORDS).of_stage("measure")[:4], Clock()
    left = TimeLeft(steps, Estimates(), 2, clock=clock)
    assert left.seconds() == pytest.approx(40)
    for step in steps[:2]:
        left.started(step)
    clock.now = 10.0
    for step in steps[:2]:
        left.ended(step, 10.0)
    assert left.seconds() == pytest.approx(20 * (10 + 10) / (20 + 10))
    clock.now = 20.0
    assert left.seconds() == pytest.approx(20)  # as fast as expected


def test_an_estimate_counts_down_and_holds_for_half_a_second() -> None:
    (step, *_), clock = demo(*WORDS).of_stage("measure"), Clock()
    left = TimeLeft([step], Estimates(), 2, clock=clock)
    assert left.seconds() == pytest.approx(10)
    left.ended(step, 10.0)
    clock.now = 0.4
    assert left.seconds() == pytest.approx(9.6)
    clock.now = 0.5
    assert left.seconds() == 0.0


def test_what_a_comparison_takes_is_known_from_earlier_ones_or_from_its_engines() -> None:
    plan = demo("measure.seconds=1")
    later = comparisons_of(plan, CompareSpec(seconds=10))[:1]
    steps = [one for one in plan.of_stage("measure") if one.label.startswith("onestage")]

    def taken(known: dict[str, Estimate]) -> float:
        with_it, without = (TimeLeft(steps, Estimates(known), 2, one) for one in (later, ()))
        return with_it.seconds() - without.seconds()

    assert taken({"compare/onestage": Estimate(14.0, 0)}) == pytest.approx(14)
    assert taken({"verify/*/onestage": Estimate(4.0, 0)}) == pytest.approx(14 * (10 + 2))
    assert taken({}) == pytest.approx(140)


def test_a_planned_comparison_takes_its_seconds_and_opens_its_engines(plan: Plan) -> None:
    cells = [Candidate(one) for one in plan.cells if one.cell.model == "onestage"][:3]
    planned = with_comparisons(plan, [cells], CompareSpec(seconds=10))
    (step,) = planned.of_stage("compare")
    for opened_s in (0.0, 6.0):
        estimates = Estimates({"verify/*/onestage": Estimate(opened_s, 0)})
        estimates.add_plan(planned.steps)
        found = TimeLeft([step], estimates, 2).seconds()
        assert found == pytest.approx(3 * (10 + opened_s / 2))
