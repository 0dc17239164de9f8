"""Which measured cells are compared, and the steps that are planned for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rows import row

from farm.config.loader import load_matrix
from farm.config.measuring import CompareSpec
from farm.plan import Plan, make_plan
from farm.plan.comparisons import Candidate, with_comparisons
from farm.results.candidates import MOST, compared, fastest
from farm.specs import CompareInputs, ModelFacts

MATRIX = """\
name: own
models:
  abc: {config: c.py, checkpoint: c.pth}
  xyz: {config: c.py, checkpoint: d.pth}
opsets: [11, 17]
shapes: {fixed: {opt: 160x160}}
precisions: [fp32, fp16]
runtimes: [openvino, onnxruntime]
dataset: {type: synthetic, count: 6}
"""
FACTS = ModelFacts(("circle",), False, "[]")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    for name, content in (("c.py", "model = 1\n"), ("c.pth", "x"), ("d.pth", "y")):
        (tmp_path / name).write_text(content)
    (tmp_path / "m.yaml").write_text(MATRIX)
    return make_plan(load_matrix(tmp_path / "m.yaml"), lambda _: FACTS)


def rows_of(plan: Plan, **changes: dict[str, Any]) -> list[dict[str, Any]]:
    """A row of each cell of 10 ms; `changes` by the cell's name with `_` for dots."""
    found = []
    for cell in (one.cell for one in plan.cells):
        own = {name: getattr(cell, name) for name in ("model", "opset", "precision", "runtime")}
        own |= {"latency_min_ms": 9.0, "busy_cores": 0.0}
        found.append(row(cell.id, **{**own, **changes.get(cell.id.replace(".", "_"), {})}))
    return found


def groups(plan: Plan) -> list[list[str]]:
    return [[one.name for one in inputs(step).entrants] for step in plan.of_stage("compare")]


def inputs(step: Any) -> CompareInputs:
    assert isinstance(step.inputs, CompareInputs)
    return step.inputs


def test_equal_cells_of_a_model_are_compared_with_each_other_alone(plan: Plan) -> None:
    found = compared(plan, rows_of(plan), CompareSpec(seconds=2, margin=0.03))
    sizes = {tuple({name.partition(".")[0] for name in group}) for group in groups(found)}
    assert sizes == {("abc",), ("xyz",)} and [len(group) for group in groups(found)] == [8, 8]
    first = inputs(found.of_stage("compare")[0])
    assert (first.seconds, first.margin, first.target.name) == (16, 0.03, "cpu")
    for cell in found.cells:
        step = found.steps[cell.steps["compare"]]
        assert cell.steps["measure"] in {one.id for one in inputs(step).entrants}
        assert step.needs == found.steps[cell.steps["measure"]].needs
        assert {cell.steps["build"], cell.steps["prepare"]} <= set(step.parents)


def test_what_is_clearly_slower_is_left_out_unless_its_ap_is_higher(plan: Plan) -> None:
    slow = {"latency_p50_ms": 30.0, "latency_min_ms": 15.001}
    name = "abc_op11_fixed_fp32_openvino_cpu"
    alone = dict.fromkeys((name, name.replace("fp32", "fp16")), slow)
    (own, other) = groups(compared(plan, rows_of(plan, **alone), CompareSpec()))
    assert len(own) == 6 and len(other) == 8
    assert not any("op11" in one and "openvino" in one for one in own)
    better = {**alone, name.replace("fp32", "fp16"): {**slow, "box_ap": 0.51}}
    own = groups(compared(plan, rows_of(plan, **better), CompareSpec()))[0]
    assert len(own) == 8, "also its cell in fp32, for the speedup"
    busy = {**alone, name: {**slow, "busy_cores": 1.0}}
    own = groups(compared(plan, rows_of(plan, **busy), CompareSpec()))[0]
    assert name.replace("_", ".") in own and len(own) == 7
    steady = {**alone, name: {**slow, "latency_min_ms": 15.0}}
    assert len(groups(compared(plan, rows_of(plan, **steady), CompareSpec()))[0]) == 7
    far = {**slow, "latency_min_ms": 40.1, "busy_cores": 1.0}
    own = groups(compared(plan, rows_of(plan, **{**alone, name: far}), CompareSpec()))[0]
    assert name.replace("_", ".") not in own and len(own) == 6


def timed(name: str, ms: float, ap: float | None) -> dict[str, Any]:
    own = {"latency_p50_ms": ms, "latency_min_ms": ms, "busy_cores": None}
    return row(name, box_ap=ap, **own)


@pytest.mark.parametrize(
    ("first", "second", "slow", "kept"),
    [
        (0.5, 0.4, 0.45, False), (0.4, 0.5, 0.5006, True), (0.4, 0.5, 0.5004, False),
        (None, 0.0, 0.0005, True), (None, None, None, False), (0.1, 0.0, None, False),
    ],
)  # fmt: skip
def test_a_slow_cell_is_compared_if_its_ap_is_higher_than_that_of_all_that_are_clearly_faster(
    first: float | None, second: float | None, slow: float | None, kept: bool
) -> None:
    rows = [timed("slow", 100.0, slow), timed("first", 10.0, first), timed("second", 11.0, second)]
    names = [one["cell"] for one in fastest(rows)]
    assert names == ["first", "second", *["slow"] * kept]


def test_engines_without_boxes_are_compared_with_each_other_alone(plan: Plan) -> None:
    raw = {"postprocess": "none"}
    names = [one.cell.id for one in plan.cells if one.cell.model == "abc"]
    some = {name.replace(".", "_"): raw for name in names if "fp16" in name}
    found = groups(compared(plan, rows_of(plan, **some), CompareSpec()))
    assert [{name.split(".")[3] for name in group} for group in found[:2]] == [{"fp32"}, {"fp16"}]


def test_cells_that_have_not_ended_well_here_are_not_compared(plan: Plan) -> None:
    names = [one.cell.id.replace(".", "_") for one in plan.cells if one.cell.model == "abc"]
    states = [{"status": "failed"}, {"origin": "ab12 a pack"}, {"latency_p50_ms": None}]
    states += [{"status": "pending"}] * (len(names) - len(states) - 1)
    found = compared(plan, rows_of(plan, **dict(zip(names, states, strict=False))), CompareSpec())
    assert [{name[:3] for name in group} for group in groups(found)] == [{"xyz"}]
    assert compared(plan, rows_of(plan), None) is plan


def test_the_fastest_comes_first_and_knows_its_cell_in_fp32(plan: Plan) -> None:
    name = "abc.op17.fixed.fp16.openvino.cpu"
    fast = {"latency_p50_ms": 8.0}
    found = compared(plan, rows_of(plan, **{name.replace(".", "_"): fast}), CompareSpec())
    first, *others = inputs(found.of_stage("compare")[0]).entrants
    assert first.name == name
    (fp32,) = (one for one in others if one.name == name.replace("fp16", "fp32"))
    assert first.baseline == fp32.id and fp32.baseline is None


def test_no_more_than_a_bounded_number_are_compared(plan: Plan) -> None:
    rows = rows_of(plan)
    many = [{**rows[0], "cell": f"c{i}", "latency_p50_ms": 10 + i / 100} for i in range(2 * MOST)]
    cells = [plan.cells[0]] * len(many)

    class Cells:
        def __init__(self) -> None:
            self.cells = cells

    asked: list[int] = []

    def counted(_: Any, groups: Any, __: Any) -> Any:
        asked.extend(len(one) for one in groups)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("farm.results.candidates.with_comparisons", counted)
        compared(Cells(), many, CompareSpec())  # type: ignore[arg-type]
    assert asked == [MOST]


def test_equal_engines_are_one_entrant_and_one_alone_is_not_compared(plan: Plan) -> None:
    first, second = plan.cells[:2]
    same = [Candidate(first), Candidate(first)]
    assert with_comparisons(plan, [same], CompareSpec()) == plan
    found = with_comparisons(plan, [[*same, Candidate(second)]], CompareSpec())
    assert len(inputs(found.of_stage("compare")[0]).entrants) == 2


def test_the_step_changes_with_its_engines_margin_and_code(plan: Plan) -> None:
    group = [Candidate(one) for one in plan.cells[:3]]

    def key(group: list[Candidate], **how: float) -> str:
        return with_comparisons(plan, [group], CompareSpec(**how)).of_stage("compare")[0].key

    keys = {key(group), key(group[:2]), key(group, margin=0.05), key(group, seconds=9)}
    assert len(keys) == 4 and key(group) in keys
