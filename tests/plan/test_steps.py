"""Steps as plans make them: the shapes they are keyed by, their packages and their needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm import catalog
from farm.config.loader import load_matrix
from farm.parts import Stage
from farm.plan import Needs, Plan, make_plan
from farm.specs import Dims, ExtraInputs, ModelFacts, Shape

MATRIX = """\
name: own
models: {abc: {config: c.py, checkpoint: c.pth}}
opsets: [17]
shapes:
  fixed: {opt: 2x3x64x96}
  batch: {min: 1x3x64x96, opt: 2x3x64x96, max: 4x3x64x96}
  size: {min: 2x3x32x64, opt: 2x3x64x96, max: 2x3x128x96}
  both: {min: 1x3x32x32, opt: 2x3x64x96, max: 4x3x128x128}
runtimes: [onnxruntime]
dataset: {type: synthetic, count: 6}
"""


FACTS = ModelFacts(("a",), False, "[]")


def planned(tmp_path: Path) -> Plan:
    for name, content in (("c.py", "model = 1\n"), ("c.pth", "x"), ("m.yaml", MATRIX)):
        (tmp_path / name).write_text(content)
    return make_plan(load_matrix(tmp_path / "m.yaml"), lambda _: FACTS)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return planned(tmp_path)


FREE = 1 << 16
TRACED = {
    "fixed": ((2, 3, 64, 96), (2, 3, 64, 96)),
    "batch": ((1, 3, 64, 96), (FREE, 3, 64, 96)),
    "size": ((2, 3, 1, 1), (2, 3, FREE, FREE)),
    "both": ((1, 3, 1, 1), (FREE, 3, FREE, FREE)),
}


def test_an_export_is_keyed_by_the_traced_shape_and_its_free_axes(plan: Plan) -> None:
    found = {step.inputs.shape.name: step.inputs.shape for step in plan.of_stage("export")}  # type: ignore[union-attr]
    opt = Dims(2, 3, 64, 96)
    assert found == {
        name: Shape(name, Dims(*low), opt, Dims(*high)) for name, (low, high) in TRACED.items()
    }


def test_images_are_prepared_one_by_one(plan: Plan) -> None:
    shapes = [step.inputs.shape for step in plan.of_stage("prepare")]  # type: ignore[union-attr]
    assert {(one.min.n, one.opt.n, one.max.n) for one in shapes} == {(1, 1, 1)}
    assert len(shapes) == 3  # fixed and batch share theirs


def test_each_step_has_the_packages_and_the_node_that_it_needs(plan: Plan) -> None:
    packages = {
        "prepare": catalog.preparer_of("[]").packages + catalog.DATASETS["synthetic"].packages,
        "export": catalog.SOURCES["mmdet"].packages + catalog.OWN_STAGES["export"].packages,
        "build": catalog.RUNTIMES["onnxruntime"].packages,
        "evaluate": (*catalog.RUNTIMES["onnxruntime"].packages, "hotcoco", "numpy", "pycocotools"),
        "measure": catalog.RUNTIMES["onnxruntime"].packages,
    }
    for stage, names in packages.items():
        step = plan.of_stage(stage)[0]
        assert [name for name, _ in step.toolchain] == sorted(set(names)), stage
        assert step.needs.exclusive == (stage == "measure") and step.needs.accelerator is None
    assert plan.of_stage("check")[0].needs == Needs(own_process=True)
    assert len({step.key for step in plan.steps.values()}) == len(plan.steps)


def test_a_stage_that_runs_engines_is_planned_by_its_descriptor_alone(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weigh = Stage(
        name="weigh",
        inputs=ExtraInputs,
        packages=("rich",),
        from_engine=lambda run: ExtraInputs(run.engine, run.prepared, run.target),
        on_target=True,
        raw_outputs=False,
        exclusive=True,
    )
    monkeypatch.setattr(catalog, "OWN_STAGES", {**catalog.OWN_STAGES, "weigh": weigh})
    steps = planned(tmp_path).of_stage("weigh")
    assert len(steps) == len(plan.of_stage("measure")) > 0
    assert "rich" in dict(steps[0].toolchain) and steps[0].needs == Needs(exclusive=True)
    raw = (tmp_path / "m.yaml").read_text() + "postprocess: [none]\n"
    (tmp_path / "m.yaml").write_text(raw)
    made = make_plan(load_matrix(tmp_path / "m.yaml"), lambda _: FACTS)
    assert made.of_stage("measure") and not made.of_stage("weigh")


def test_only_what_is_compared_with_the_reference_waits_for_it(plan: Plan) -> None:
    def parents(stage: str) -> list[str]:
        return [plan.steps[key].stage for key in plan.of_stage(stage)[0].parents]

    assert parents("verify") == parents("evaluate") == ["build", "prepare", "reference"]
    assert parents("measure") == ["build", "prepare"]
