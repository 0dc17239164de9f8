"""Runtimes in environments of their own: keys by the versions there, and what cannot be had."""

from __future__ import annotations

import dataclasses
import os
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import wheels

from farm.cli.plan import as_json, as_text
from farm.config.loader import load_matrix
from farm.config.measuring import CompareSpec
from farm.engine.checks import checked_plan
from farm.engine.local import LocalExecutor
from farm.environments import locking, state, uv
from farm.errors import InputError
from farm.plan import Plan, Step, make_plan, precisions
from farm.plan.comparisons import Candidate, with_comparisons
from farm.plan.environments import make_environments, packages_of
from farm.plan.machines import compatibility, placement
from farm.plan.machines.placement import Machine
from farm.results.rows import make_rows
from farm.specs import BuildInputs, CompareInputs, Dims, ModelFacts, Shape, Target
from farm.store import Store

MATRIX = """\
name: releases
models: {a: {source: onnx, file: a.onnx, classes: [x]}}
shapes: {s: {opt: 64x64}}
environments:
  ready: {interpreter: INTERPRETER}
  box: {image: "registry/name:1"}
runtimes: [openvino, openvino@2025.2]
dataset: {type: synthetic}
"""
FACTS = ModelFacts(("x",), False, "a pipeline", opset=17)
OWN = ("check", "prepare", "reference", "export")


@pytest.fixture
def releases(index: Path) -> Path:
    """An index with releases of OpenVINO, and what steps need beside it, all of them empty."""
    for requirement in locking.WORKER:
        name, _, version = requirement.partition(">=")
        wheels.add(index, name, version)
    for version in ("2025.2.0", "2025.2.1", "2026.0.0"):
        wheels.add(index, "openvino", version)
    return index


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.onnx").write_bytes(b"a model")
    path = tmp_path / "m.yaml"
    path.write_text(MATRIX.replace("INTERPRETER", sys.executable))
    return path


def plan_of(path: Path, *overrides: str, make: bool = False) -> Plan:
    matrix = load_matrix(path, overrides)
    if make:
        make_environments(matrix)
    return make_plan(matrix, lambda key: FACTS)


def steps(plan: Plan, runtime: str) -> dict[str, Step]:
    (cell,) = (one for one in plan.cells if one.cell.runtime == runtime)
    return {stage: plan.steps[key] for stage, key in cell.steps.items()}


def test_a_plan_makes_nothing_and_says_so(
    releases: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uv, "run", lambda *words, **named: pytest.fail("uv was called"))
    plan = plan_of(path, "runtimes=[openvino, openvino@2025.2, openvino@2026.0]")
    assert plan.unmade == ("openvino@2025.2", "openvino@2026.0")
    found = [steps(plan, runtime) for runtime in ("openvino", *plan.unmade)]
    for stage in ("build", "verify", "evaluate", "measure"):
        assert len({one[stage].key for one in found}) == 3
    assert dict(found[1]["build"].toolchain) == {
        "openvino": "unknown until openvino@2025.2 is made"
    }
    assert not (path.parent / "environments").exists()
    text = as_text(plan, Store(path.parent / "store"))
    assert "Environments not made yet: openvino@2025.2, openvino@2026.0.\n" in text
    assert "the keys of their steps are provisional" in text
    shown = as_json(plan, Store(path.parent / "store"))
    assert shown["unmade"] == ["openvino@2025.2", "openvino@2026.0"]
    named = {one["environment"] for one in shown["steps"].values()}
    assert named == {None, "openvino@2025.2", "openvino@2026.0"}


def test_keys_have_the_versions_of_the_environment(releases: Path, path: Path) -> None:
    names = ("openvino@2025.2", "openvino@2025.2.0", "openvino@2025.2.1", "openvino@2026.0")
    plan = plan_of(path, f"runtimes=[{', '.join(names)}]", make=True)
    assert plan.unmade == ()
    builds = [steps(plan, name)["build"] for name in names]
    versions = [dict(one.toolchain)["openvino"] for one in builds]
    assert versions == ["2025.2.1", "2025.2.0", "2025.2.1", "2026.0.0"]
    keys = [one.key for one in builds]
    assert keys[0] == keys[2] and len(set(keys)) == 3
    evaluate = steps(plan, names[0])["evaluate"]
    assert dict(evaluate.toolchain) == {
        "hotcoco": "1.3", "numpy": "1.26", "openvino": "2025.2.1", "pycocotools": "2.0.7",
    }  # fmt: skip
    state._KNOWN.clear()
    assert plan_of(path, f"runtimes=[{', '.join(names)}]").steps.keys() == plan.steps.keys()


def test_the_steps_of_an_engine_alone_run_there(releases: Path, path: Path) -> None:
    options = "runtime_options={openvino: {A: 1, B: 1}, openvino@2025.2: {B: 2}}"
    plan = plan_of(path, options, make=True)
    own, other = steps(plan, "openvino"), steps(plan, "openvino@2025.2")
    for stage, step in other.items():
        environment = step.environment
        assert (environment is None) == (stage in OWN) == (step.key == own[stage].key)
        assert step.needs.own_process == (stage == "check")
        if environment:
            assert environment.lock.count("openvino==2025.2.1\n") == 1
    inputs = other["build"].inputs
    assert isinstance(inputs, BuildInputs)
    assert inputs.options.runtime == "openvino"
    assert inputs.options.options == (("A", 1), ("B", 2))
    assert all(step.environment is None for step in own.values())


def test_what_cannot_be_installed_costs_its_own_cells(
    releases: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(path, "runtimes=[openvino, openvino@2031.2, openvino@2025.2]", make=True)
    refused = {one.cell.runtime: one.refused for one in plan.cells}
    assert refused["openvino"] is None is refused["openvino@2025.2"]
    reason = refused["openvino@2031.2"]
    assert reason and reason.startswith("environment openvino@2031.2: Because ")
    assert "\n" not in reason and "openvino==2031.2.*" in reason
    assert reason in capsys.readouterr().err
    assert {step.label for step in plan.of_stage("build")} == {
        "a.s.fp32.openvino.cpu", "a.s.fp32.openvino@2025.2.cpu",
    }  # fmt: skip
    store = Store(path.parent / "store")
    rows = make_rows(plan, store, load_matrix(path).spec.verify, {})
    row = next(one for one in rows if one["runtime"] == "openvino@2031.2")
    assert (row["status"], row["failed_stage"], row["reason"]) == ("failed", "build", reason)
    assert {one["status"] for one in rows if one is not row} == {"pending"}


def test_a_ready_python_with_the_same_versions_gives_the_same_keys(path: Path) -> None:
    plan = plan_of(path, "runtimes=[null, null@ready]")
    assert plan.unmade == () and len(plan.of_stage("build")) == 1
    only = plan_of(path, "runtimes=[null@ready]")
    (build,) = only.of_stage("build")
    assert build.key in plan.steps and build.environment
    assert build.environment.interpreter == sys.executable


def test_an_interpreter_that_is_not_here_is_wrong_input_at_its_line(path: Path) -> None:
    words = ("runtimes=[openvino@ready]",)
    path.write_text(MATRIX.replace("INTERPRETER", "bin/python"))
    plan = plan_of(path, *words)
    expected = f"{path}:5: {path.parent}/bin/python is no program; expected the path of a Python"
    assert [str(one) for one in plan.missing] == [expected]
    assert plan_of(path, "runtimes=[openvino]").missing == ()


def test_an_interpreter_keeps_the_links_that_lead_to_its_packages(path: Path) -> None:
    relative = os.path.relpath(sys.executable, path.resolve().parent)
    path.write_text(MATRIX.replace("INTERPRETER", relative))
    (build,) = plan_of(path, "runtimes=[null@ready]").of_stage("build")
    assert build.environment and build.environment.interpreter == sys.executable


def test_an_image_is_in_keys_by_its_name(path: Path) -> None:
    words = ("runtimes=[openvino@box]",)
    (build,) = plan_of(path, *words).of_stage("build")
    assert dict(build.toolchain) == {"openvino": "of image registry/name:1"}
    path.write_text(path.read_text().replace("name:1", "name:2"))
    (other,) = plan_of(path, *words).of_stage("build")
    assert other.key != build.key


def test_versions_are_compared_within_the_same_environment_alone(path: Path) -> None:
    (build,) = plan_of(path, "runtimes=[openvino@ready]").of_stage("build")
    assert build.environment
    target = build.inputs.target  # type: ignore[union-attr]
    assert isinstance(target, Target)
    node = Machine("n", target.device, {"openvino": "another"})
    assert placement.step_unsupported(build, node) is None
    there = Machine("n", target.device, {"openvino": "0"}, environment=build.environment.digest)
    reason = placement.step_unsupported(build, there)
    assert reason and reason.startswith("node n has openvino 0, the plan was made with")


def compared(plan: Plan) -> list[Step]:
    group = [Candidate(cell) for cell in plan.cells]
    return [*with_comparisons(plan, [group], CompareSpec()).of_stage("compare")]


def test_engines_of_several_environments_are_compared_with_each_other(
    releases: Path, path: Path
) -> None:
    names = ("openvino", "openvino@2025.2", "openvino@2026.0")
    (step,) = compared(plan_of(path, f"runtimes=[{', '.join(names)}]", make=True))
    assert step.environment is None
    assert dict(step.toolchain)["openvino"] == version("openvino")
    assert isinstance(step.inputs, CompareInputs)
    found = [one.environment and one.environment.name for one in step.inputs.entrants]
    assert found == [None, *names[1:]]
    (other,) = compared(plan_of(path, f"runtimes=[{', '.join(names[:2])}]", make=True))
    assert other.key != step.key


def test_engines_of_one_environment_are_compared_in_that(path: Path) -> None:
    (step,) = compared(plan_of(path, "runtimes=[openvino@ready, onnxruntime@ready]"))
    assert step.environment and step.environment.interpreter == sys.executable
    assert isinstance(step.inputs, CompareInputs)
    assert [one.environment for one in step.inputs.entrants] == [None, None]


def test_engines_of_a_container_are_compared_among_themselves(path: Path) -> None:
    names = ("openvino", "onnxruntime", "openvino@box", "onnxruntime@box")
    own, box = compared(plan_of(path, f"runtimes=[{', '.join(names)}]"))
    assert own.environment is None and box.environment
    assert box.environment.image == "registry/name:1"


def test_limits_of_a_release_are_those_of_its_environment(path: Path) -> None:
    cell = dataclasses.replace(load_matrix(path).cells[1], runtime="tensorrt@8.6", opset=20)
    dims = Dims(1, 3, 64, 64)
    shape, target = Shape("s", dims, dims, dims), Target("cpu", "a CPU")
    for release, refused in (("8.6.1", True), ("10.3.0", False), ("", False)):
        reason = compatibility.cell_unsupported(
            cell, FACTS, shape, target, simplify=False, release=release
        )  # fmt: skip
        assert (reason == "tensorrt@8.6 8.6.1 reads opsets up to 17, not 20") == refused


def test_a_sweep_makes_environments_before_it_plans(releases: Path, path: Path) -> None:
    matrix, store = load_matrix(path), Store(path.parent / "store")
    with pytest.raises(InputError, match=r"a\.onnx"):  # it is no model, which its check finds
        checked_plan(matrix, store, lambda: LocalExecutor(store), retry_failed=False)
    assert make_plan(matrix).unmade == ()


def test_options_of_a_release_decide_who_lowers_the_precision(path: Path) -> None:
    gpu = ("runtimes=[tensorrt@10.3]", "targets={g: {accelerator: L4, driver: 580}}")
    own = "runtime_options={tensorrt: {builder_flags: true}, tensorrt@10.3: {builder_flags: false}}"
    for options, expected in (("runtime_options={}", True), (own, True), (own[:49] + "}", False)):
        matrix = load_matrix(path, (*gpu, options, "precisions=[fp16]"))
        assert precisions.converts(matrix.spec, matrix.cells[0]) == expected


def test_packages_whose_versions_are_asked_for() -> None:
    assert packages_of("openvino@2025.2")[0] == "openvino"
    assert {"numpy", "pycocotools"} <= {*packages_of("null@ready")}
