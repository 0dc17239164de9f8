"""GPU targets: what stands in an engine's key, where steps may run, what is refused beforehand."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Farm

from farm import specs
from farm.catalog import RUNTIMES
from farm.config.loader import load_matrix
from farm.errors import InputError
from farm.plan import Plan, Step, make_plan
from farm.plan.keys import canonical
from farm.plan.machines import compatibility, placement
from farm.plan.machines.placement import Machine
from farm.specs import Dims, Gpu, ModelFacts, Suppression

MATRIX = """\
name: gpus
models:
  a: {config: a.py, checkpoint: a.pth}
opsets: [17]
shapes: {fixed: {opt: 160x160}}
runtimes: [tensorrt, tensorrt_rtx]
targets:
  t: {accelerator: L4, driver: 580}
dataset: {type: synthetic}
"""
TARGET_LINE, LINES = 8, MATRIX.count("\n")

PLAIN = ModelFacts(("circle",), False, "the same pipeline")
SUPPRESSING = dataclasses.replace(PLAIN, suppression=Suppression(0.5, False, 100))


@pytest.fixture(autouse=True)
def no_gpu_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has."""
    monkeypatch.setattr(placement, "gpus", lambda: ())


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("model = 1\n")
    (tmp_path / "a.pth").write_bytes(b"weights")
    path = tmp_path / "m.yaml"
    path.write_text(MATRIX)
    return path


def plan_of(path: Path, *overrides: str, facts: ModelFacts = PLAIN) -> Plan:
    return make_plan(load_matrix(path, overrides), lambda key: facts)


def step(plan: Plan, stage: str, runtime: str = "tensorrt") -> Step:
    (cell,) = [one for one in plan.cells if one.cell.runtime == runtime]
    return plan.steps[cell.steps[stage]]


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize("stage", ["build", "verify", "evaluate", "measure"])
@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt_rtx"])
@pytest.mark.parametrize(
    "other",
    [
        "targets.t.driver=590",
        "targets.t.accelerator=L40S",
        "targets.t.device=NVIDIA L4",
        "targets.t.compute_capability=8.6",
    ],
)
def test_gpu_model_capability_and_driver_branch_are_in_every_key_of_an_engine(
    matrix: Path, runtime: str, stage: str, other: str
) -> None:
    one, two = plan_of(matrix), plan_of(matrix, other)
    assert step(one, stage, runtime).key != step(two, stage, runtime).key
    assert step(one, "export", runtime).key == step(two, "export", runtime).key


def test_the_librarys_version_is_in_the_key_and_the_drivers_patch_level_is_not(
    matrix: Path,
) -> None:
    plan, patched = plan_of(matrix), plan_of(matrix, "targets.t.driver=580.95.05")
    assert dict(step(plan, "build").toolchain).keys() == {"tensorrt"}
    assert dict(step(plan, "build", "tensorrt_rtx").toolchain).keys() == {
        "tensorrt-rtx-cu13-bindings"
    }
    assert step(plan, "build").key == step(patched, "build").key


def test_targets_and_engines_of_the_cpu_keep_the_keys_that_they_had() -> None:
    assert canonical(specs.Target("cpu", "a CPU")) == {"device": "a CPU", "accelerator": None}
    shape = specs.Shape("s", *[Dims(1, 3, 64, 64)] * 3)
    assert "compute_capability" not in canonical(specs.EngineOptions("openvino", "fp32", shape))


def test_a_plugin_counts_by_what_is_in_it_and_a_timing_cache_not_by_its_place(
    matrix: Path,
) -> None:
    library = matrix.parent / "own.so"
    library.write_bytes(b"one")
    given = "runtime_options.tensorrt.plugins=[own.so]"
    first = step(plan_of(matrix, given), "build").key
    library.write_bytes(b"two")
    assert step(plan_of(matrix, given), "build").key != first
    places = [
        step(plan_of(matrix, f"runtime_options.tensorrt.timing_cache={name}"), "build").key
        for name in ("a.cache", "b.cache")
    ]
    assert places[0] == places[1]
    built = step(plan_of(matrix, "runtime_options.tensorrt.timing_cache=kept/"), "build")
    assert isinstance(built.inputs, specs.BuildInputs)
    assert dict(built.inputs.options.options)["timing_cache"].path == f"{matrix.parent}/kept/"
    (missing,) = plan_of(matrix, "runtime_options.tensorrt.plugins=[no.so]").missing
    assert "plug-in" in str(missing) and "no.so" in str(missing)


# ---------------------------------------------------------------- where


def test_rtx_is_built_on_any_node_for_its_target_and_run_on_that_only(matrix: Path) -> None:
    plan = plan_of(matrix)
    built = step(plan, "build", "tensorrt_rtx")
    assert built.needs.accelerator is None
    assert isinstance(built.inputs, specs.BuildInputs)
    assert built.inputs.options.compute_capability == "8.9"
    for stage in ("verify", "evaluate", "measure"):
        needs = step(plan, stage, "tensorrt_rtx").needs
        assert needs.accelerator == "L4" and needs.optional
    assert step(plan, "build").needs.accelerator == "L4"
    stages = ("build", "verify", "evaluate", "measure")
    shares = {stage: step(plan, stage).needs.shares_gpu for stage in stages}
    assert shares == {"build": False, "verify": True, "evaluate": True, "measure": False}
    assert not step(plan, "verify").needs.optional


@pytest.mark.parametrize(
    ("gpu", "reason"),
    [
        (Gpu("NVIDIA L4", "8.9", "580.95.05"), None),
        (Gpu("NVIDIA L4", "8.9", "570.1"), r"NVIDIA L4 \(8\.9, driver 570\), and target t is L4"),
        (Gpu("NVIDIA L40S", "8.9", "580.1"), r"node-1 has NVIDIA L40S"),
        (Gpu("NVIDIA H200", "9.0", "580.1"), r"has NVIDIA H200 .* is L4 \(8\.9, driver 580\)"),
    ],
)
def test_a_node_with_another_gpu_or_driver_refuses_naming_both(
    matrix: Path, gpu: Gpu, reason: str | None
) -> None:
    wanted = step(plan_of(matrix), "verify")
    here = Machine("node-1", "a CPU", dict(wanted.toolchain), (gpu,))
    told = placement.step_unsupported(wanted, here)
    assert told is None if reason is None else re.search(reason, str(told))
    built = step(plan_of(matrix), "build", "tensorrt_rtx")  # anywhere
    there = dataclasses.replace(here, versions=dict(built.toolchain))
    assert placement.step_unsupported(built, there) is None


@pytest.mark.parametrize(
    ("lacks", "reason"),
    [
        ({}, None),
        ({"accelerators": ("H200",)}, "node n has H200"),
        ({"accelerators": ()}, "node n has no accelerator"),
        ({"gpu_count": 0}, "node n gives Ray no GPU (`ray start --num-gpus`)"),
        ({"cpus": 0.5}, "node n has 0.5 CPUs"),
        ({"no_store": "why"}, "node n does not see the store: why"),
        ({"versions": {}}, "None, the plan was made with"),
    ],
)
def test_a_machine_that_cannot_do_a_step_says_why(
    matrix: Path, lacks: dict[str, Any], reason: str | None
) -> None:
    wanted = step(plan_of(matrix), "verify")
    machine = Machine(
        "n", "a CPU", dict(wanted.toolchain), accelerators=("L4",), gpu_count=1, cpus=2
    )
    found = placement.step_unsupported(wanted, dataclasses.replace(machine, **lacks))
    assert found is None if reason is None else reason in str(found)


def test_a_device_says_which_of_an_accelerators_models() -> None:
    wanted = placement.target("t", "A100", "NVIDIA A100-SXM4-80GB", driver="580")
    assert placement.gpu_unsupported(wanted, Gpu("NVIDIA A100-SXM4-80GB", "8.0", "580.1")) is None
    assert "A100-PCIE" in str(
        placement.gpu_unsupported(wanted, Gpu("NVIDIA A100-PCIE-40GB", "8.0", "580.1"))
    )


# ---------------------------------------------------------------- what is known of a target


def test_what_is_not_said_of_a_target_is_this_machines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Gpu("NVIDIA L4", "8.9", "575.57")
    monkeypatch.setattr(placement, "gpus", lambda: (here,))
    assert placement.target("t", "L4").driver == "575"
    assert placement.target("t", "L4", driver="580").driver == "580"
    assert placement.gpu_unsupported(placement.target("t", "L4"), here) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA GeForce RTX 4090", "GeForce-RTX-4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "GeForce-RTX-4090-Laptop-GPU"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
        ("NVIDIA RTX A6000", "RTX-A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX-6000"),
        ("NVIDIA TITAN Xp", "TITAN-Xp"),
    ],
)
def test_an_accelerator_is_called_as_ray_calls_it(name: str, kind: str) -> None:
    ray = pytest.importorskip("ray._private.accelerators.nvidia_gpu")
    assert placement.accelerator(name) == kind
    assert ray.NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type(name) == kind


def test_accelerators_whose_capability_is_known_are_called_as_ray_calls_them() -> None:
    for kind in placement.COMPUTE_CAPABILITIES:
        assert placement.accelerator(f"NVIDIA {kind.replace('-', ' ')}") == kind


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (", driver: 580", "", "no L4 to ask. Say its branch"),
        ("accelerator: L4", "accelerator: L44", "'L44' is not known; did you mean 'L4"),
        ("accelerator: L4, ", "", "name its `accelerator`"),
        ("driver: 580", "driver: newest", "'newest' is not a driver's version"),
        ("driver: 580", "compute_capability: sm89", "is not a compute capability, as 8.9"),
    ],
)
def test_what_a_target_lacks_is_told_with_its_line(
    matrix: Path, old: str, new: str, said: str
) -> None:
    matrix.write_text(MATRIX.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        plan_of(matrix)
    assert said in str(error.value)
    assert f"m.yaml:{TARGET_LINE}:" in str(error.value)


# ---------------------------------------------------------------- refusals


def refused(plan: Plan, runtime: str) -> str | None:
    (cell,) = [one for one in plan.cells if one.cell.runtime == runtime]
    return cell.refused


def test_a_target_that_rtx_cannot_build_for_is_refused(matrix: Path) -> None:
    plan = plan_of(matrix, "targets.t.accelerator=H200")
    told = "builds for compute capability 7.5, 8.0, 8.6, 8.9, 12.0, and target t (H200) has 9.0"
    assert told in str(refused(plan, "tensorrt_rtx"))
    assert refused(plan, "tensorrt") is None


@pytest.mark.parametrize(
    ("installed", "opset", "told"),
    [
        ("8.6.0", 18, "tensorrt 8.6.0 reads opsets up to 17, not 18"),
        ("8.6.0", 17, None),
        ("10.13.0", 20, None),
    ],
)
def test_an_opset_that_the_version_does_not_read_is_refused(
    matrix: Path, monkeypatch: pytest.MonkeyPatch, installed: str, opset: int, told: str | None
) -> None:
    monkeypatch.setattr(compatibility, "version", lambda package: installed)
    assert refused(plan_of(matrix, f"opsets=[{opset}]"), "tensorrt") == told


def test_a_suppression_that_a_runtime_has_not_is_done_on_the_host(matrix: Path) -> None:
    def ends(plan: Plan, runtime: str) -> list[str]:
        return [one.cell.postprocess for one in plan.cells if one.cell.runtime == runtime]

    plan = plan_of(matrix, facts=SUPPRESSING)
    assert set(ends(plan, "tensorrt")) == {"graph"} and set(ends(plan, "tensorrt_rtx")) == {"host"}
    moved = [one for one in plan.cells if one.cell.runtime == "tensorrt_rtx"]
    assert all(".host." in one.cell.id and not one.refused for one in moved)
    asked = plan_of(matrix, "postprocess=[host]", facts=SUPPRESSING)
    assert {one.steps["build"] for one in moved} == {
        one.steps["build"] for one in asked.cells if one.cell.runtime == "tensorrt_rtx"
    }
    both = plan_of(matrix, "postprocess=[graph, host]", facts=SUPPRESSING)
    assert len({one.cell.id for one in both.cells}) == len(both.cells)
    assert ends(both, "tensorrt_rtx") == ends(asked, "tensorrt_rtx")
    assert set(ends(plan_of(matrix), "tensorrt_rtx")) == {"graph"}  # nothing to suppress


def test_what_suppresses_half_way_is_refused_where_the_runtime_cannot(matrix: Path) -> None:
    facts = dataclasses.replace(PLAIN, host_refused="it suppresses half-way")
    plan = plan_of(matrix, facts=facts)
    assert "cannot run on the host instead: use postprocess: none" in str(
        refused(plan, "tensorrt_rtx")
    )
    assert refused(plan, "tensorrt") is None
    raw = plan_of(matrix, "postprocess=[none]", facts=facts)
    assert refused(raw, "tensorrt_rtx") is None


def test_a_precision_that_onnx_runtime_reads_no_file_of_needs_the_builders_flag(
    matrix: Path,
) -> None:
    words = ("runtimes=[onnxruntime_tensorrt]", "precisions=[bf16]")
    told = str(refused(plan_of(matrix, *words), "onnxruntime_tensorrt"))
    assert "takes no bf16 file" in told and "builder_flags: true" in told
    flags = "runtime_options={onnxruntime_tensorrt: {builder_flags: true}}"
    assert refused(plan_of(matrix, *words, flags), "onnxruntime_tensorrt") is None


def test_int8_is_not_left_to_a_builders_flag(matrix: Path) -> None:
    flags, int8 = "runtime_options.tensorrt.builder_flags=true", "precisions=[int8]"
    plan = plan_of(matrix, int8, flags)
    assert "leave out `builder_flags`" in str(refused(plan, "tensorrt"))
    assert refused(plan, "tensorrt_rtx") is None
    assert refused(plan_of(matrix, int8), "tensorrt") is None
    assert refused(plan_of(matrix, "precisions=[fp16]", flags), "tensorrt") is None


# ---------------------------------------------------------------- options


def test_options_are_those_of_the_adapter() -> None:
    assert set(RUNTIMES["tensorrt_rtx"].option_names) == {
        "cuda_graph", "optimization_level", "plugins",
    }  # fmt: skip
    assert set(RUNTIMES["tensorrt"].option_names) > set(RUNTIMES["tensorrt_rtx"].option_names)
    assert RUNTIMES["openvino"].options is None  # it takes any, and complains itself


def test_options_filled_in_as_text_are_those_that_are_meant(matrix: Path) -> None:
    text = """\
precisions: [fp16]
runtime_options:
  tensorrt:
    builder_flags: "${NO_SUCH_FLAGS:-false}"
    optimization_level: "${NO_SUCH_LEVEL:-3}"
    tactic_sources: [CUBLAS]
"""
    matrix.write_text(MATRIX + text)
    filled = step(plan_of(matrix), "build")
    assert isinstance(filled.inputs, specs.BuildInputs)
    assert dict(filled.inputs.options.options) == {
        "builder_flags": False,
        "optimization_level": 3,
        "tactic_sources": ["CUBLAS"],
    }
    assert step(plan_of(matrix), "convert")  # not left to the builder
    matrix.write_text(
        MATRIX
        + text.replace('"${NO_SUCH_FLAGS:-false}"', "false").replace('"${NO_SUCH_LEVEL:-3}"', "3")
    )
    assert step(plan_of(matrix), "build").key == filled.key


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("tensorrt: {optimisation_level: 3}", "'optimisation_level'; did you mean 'optimization_l"),
        ("tensorrt: {optimization_level: 9}", "less than or equal to 5, not 9"),
        ("tensorrt: {plugins: own.so}", "'plugins': input should be a valid list"),
        ("tensorrt_rtx: {timing_cache: x}", "tensorrt_rtx has no option 'timing_cache'"),
    ],
)
def test_a_wrong_option_is_told_with_its_line(matrix: Path, options: str, said: str) -> None:
    matrix.write_text(f"{MATRIX}runtime_options:\n  {options}\n")
    with pytest.raises(InputError) as error:
        load_matrix(matrix)
    assert said in str(error.value) and f"m.yaml:{LINES + 2}:" in str(error.value)


# ---------------------------------------------------------------- a sweep


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_engines_are_built_where_nothing_can_run_them(
    small_matrix: Path, small_results: Path, farm: Farm, executor: str
) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    results, target = small_results, "targets={l4: {accelerator: L4, driver: 1}}"
    done = farm(
        "run", small_matrix, "runtimes=[tensorrt_rtx]", target, "postprocess=[host]",
        "--executor", executor, "--results", results, "--no-mlflow",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    (row,) = pd.read_parquet(results / "leaderboard" / "target=l4").to_dict("records")
    assert row["status"] == "pending" and row["reason"].startswith("verify has not run: ")
    assert done.stderr.count("skipped, with all steps") == 1 and "1 pending" in done.stderr
    assert "pending: " in done.stdout and done.stdout.count("L4") == 1
    assert row["engine_bytes"] > 1e6 and row["runtime_version"] and pd.isna(row["device"])
    assert "L4" in row["reason"]
    assert not list((results / "store").glob("failed/*"))
