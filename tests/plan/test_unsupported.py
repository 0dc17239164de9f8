"""Why a cell, a shape or a machine cannot do what is asked: each reason, and what has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from farm.config.loader import Cell
from farm.plan import Needs, Step
from farm.plan.machines import compatibility
from farm.plan.machines.compatibility import (
    cell_unsupported,
    shape_unsupported,
    with_host_suppression,
)
from farm.plan.machines.placement import (
    Machine,
    accelerator_unsupported,
    gpu_unsupported,
    step_unsupported,
)
from farm.specs import (
    BuildInputs,
    Dims,
    EngineOptions,
    Gpu,
    ModelFacts,
    Ref,
    Shape,
    Sizes,
    Suppression,
)
from farm.specs import Target as TargetSpec

CELL = Cell("m", 17, "s", "graph", "fp32", "onnxruntime", None, "t")
FACTS = ModelFacts(("a",), False, "[]")
CPU = TargetSpec("t", "a cpu")
L4 = TargetSpec("gpu", "L4", "L4", "8.9", "580")
FIXED = Shape("s", *[Dims(1, 3, 64, 96)] * 3)
FREE = Shape("s", Dims(1, 3, 32, 64), Dims(1, 3, 64, 96), Dims(1, 3, 128, 160))
NMS = Suppression(0.5, False, 100)


def reason(
    cell: Cell = CELL,
    facts: ModelFacts = FACTS,
    shape: Shape = FIXED,
    target: TargetSpec = CPU,
    simplify: bool = False,
    **more: bool,
) -> str | None:
    return cell_unsupported(cell, facts, shape, target, simplify=simplify, **more)


def test_a_plain_cell_has_no_reason() -> None:
    assert reason() is None


@pytest.mark.parametrize(
    ("postprocess", "facts", "expected"),
    [
        ("graph", {"refused": "A", "host_refused": "B", "raw_refused": "C"}, "A"),
        ("host", {"refused": "A", "host_refused": "B", "raw_refused": "C"}, "A"),
        ("host", {"host_refused": "B"}, "B"),
        ("graph", {"host_refused": "B", "raw_refused": "C"}, None),
        ("none", {"refused": "A", "host_refused": "B"}, None),
        ("none", {"raw_refused": "C"}, "C"),
    ],
)
def test_a_graph_ends_where_the_model_lets_it(
    postprocess: str, facts: dict[str, str], expected: str | None
) -> None:
    found = reason(replace(CELL, postprocess=postprocess), replace(FACTS, **facts))  # type: ignore[arg-type]
    assert found == expected


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ((1, 3, 64, 96), FIXED, None),
        ((None, 3, None, None), FREE, None),
        ((None, None, None, None), FREE, None),
        (None, FREE, None),
        (
            (1, 3, 64, 64), FIXED,
            "the model takes 1x3x64x64 (NxCxHxW), and shape s asks for 1x3x64x96",
        ),
        (
            (2, 3, 64, 96), FIXED,
            "the model takes 2x3x64x96 (NxCxHxW), and shape s asks for 1x3x64x96",
        ),
        (
            (None, 3, 64, None), FREE,
            "the model takes ?x3x64x? (NxCxHxW), and shape s asks for 1x3x32x64 to 1x3x128x160",
        ),
        (  # its largest alone is not enough
            (1, 3, 128, 160), FREE,
            "the model takes 1x3x128x160 (NxCxHxW), and shape s asks for 1x3x32x64 to 1x3x128x160",
        ),
        (
            (1, 3, 32, 64), FREE,
            "the model takes 1x3x32x64 (NxCxHxW), and shape s asks for 1x3x32x64 to 1x3x128x160",
        ),
    ],
)  # fmt: skip
def test_a_ready_model_takes_the_shapes_that_it_was_made_for(
    axes: tuple[int | None, ...] | None, shape: Shape, expected: str | None
) -> None:
    assert reason(facts=replace(FACTS, input_shape=axes), shape=shape) == expected


def test_the_nearest_sizes_that_a_network_takes_are_named() -> None:
    facts = replace(FACTS, sizes=Sizes(64))
    assert reason(facts=facts) == (
        "the network takes as heights and widths multiples of 64, and opt of shape s is 64x96 "
        "(HxW); the nearest are 64x64 and 64x128"
    )
    assert reason(facts=replace(FACTS, sizes=Sizes(32))) is None
    one = replace(FACTS, sizes=Sizes(1, (0,), 100))
    assert str(reason(facts=one)).endswith("opt of shape s is 64x96 (HxW); the nearest is 100x100")


def test_what_the_pipeline_pads_to_counts_for_fixed_shapes_alone() -> None:
    facts = replace(FACTS, padded_to=Sizes(64))
    assert reason(facts=facts) == (
        "the test pipeline pads to heights and widths that are multiples of 64, and opt of shape s "
        "is 64x96 (HxW); the nearest are 64x64 and 64x128"
    )
    assert reason(facts=facts, shape=FREE) is None
    both = replace(facts, sizes=Sizes(128))
    assert str(reason(facts=both)).startswith("the network takes")


@pytest.mark.parametrize(
    ("low", "high", "profiles", "end"),
    [
        ((32, 96), (128, 160), True, None),
        ((40, 96), (128, 160), True, "min"),
        ((32, 96), (128, 150), True, "max"),
        ((40, 96), (128, 150), False, None),
    ],
)
def test_the_bounds_of_a_dynamic_shape_count_where_a_runtime_builds_for_them(
    low: tuple[int, int], high: tuple[int, int], profiles: bool, end: str | None
) -> None:
    facts = replace(FACTS, sizes=Sizes(32))
    shape = Shape("s", Dims(1, 3, *low), Dims(1, 3, 64, 96), Dims(1, 3, *high))
    found = shape_unsupported(facts, shape, profiles)
    assert found is None if end is None else f", and {end} of shape s is " in str(found)
    odd = replace(shape, opt=Dims(1, 3, 65, 97))
    assert "opt of shape s is 65x97" in str(shape_unsupported(facts, odd, False))


GPU_CELL = replace(CELL, runtime="tensorrt", target="gpu", workspace_bytes=1)


@pytest.mark.parametrize(
    ("cell", "shape", "target", "simplify", "refused"),
    [
        (GPU_CELL, FREE, L4, True, True),
        (GPU_CELL, FIXED, L4, True, False),
        (GPU_CELL, FREE, L4, False, False),
        (CELL, FREE, CPU, True, False),
        (replace(CELL, runtime="torch"), FREE, CPU, True, False),
    ],
)
def test_tensorrt_takes_no_simplified_file_with_free_axes(
    cell: Cell, shape: Shape, target: TargetSpec, simplify: bool, refused: bool
) -> None:
    found = reason(cell, shape=shape, target=target, simplify=simplify)
    assert found == (
        "tensorrt is not known to take a simplified model with dynamic shapes: leave out "
        "`simplify`, or use a fixed shape"
        if refused
        else None
    )


RTX_CELL = replace(GPU_CELL, runtime="tensorrt_rtx")


def test_rtx_builds_for_its_own_capabilities() -> None:
    assert reason(RTX_CELL, target=L4) is None
    t = replace(L4, device="V100", compute_capability="7.0")
    assert reason(RTX_CELL, target=t) == (
        "tensorrt_rtx builds for compute capability 7.5, 8.0, 8.6, 8.9, 12.0, and target gpu (V100)"
        " has 7.0"
    )
    assert reason(GPU_CELL, target=t) is None


@pytest.mark.parametrize(
    ("version", "opset", "own", "refused"),
    [
        ("8.6.1", 17, None, None), ("8.6.1", 18, None, 18), ("10.1", 18, None, None),
        ("8.6.1", None, 18, 18), ("8.6.1", None, 17, None), ("8.6.1", None, None, None),
    ],
)  # fmt: skip
def test_an_old_tensorrt_reads_opsets_up_to_17(
    version: str,
    opset: int | None,
    own: int | None,
    refused: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compatibility, "version", lambda package: version)
    found = reason(replace(GPU_CELL, opset=opset), replace(FACTS, opset=own), target=L4)
    expected = f"tensorrt {version} reads opsets up to 17, not {refused}"
    assert found == (expected if refused else None)
    assert reason(replace(CELL, opset=20)) is None


def test_a_runtime_without_suppression_leaves_it_to_the_host() -> None:
    with_nms = replace(FACTS, suppression=NMS)
    assert with_host_suppression(RTX_CELL, with_nms).postprocess == "host"
    for cell, facts in (
        (RTX_CELL, FACTS),  # none to be done
        (GPU_CELL, with_nms),
        (replace(RTX_CELL, postprocess="none"), with_nms),
        (RTX_CELL, replace(with_nms, host_refused="why")),
    ):
        assert with_host_suppression(cell, facts) == cell
    half_way = "tensorrt_rtx has no NonMaxSuppression, and this model's cannot run on the host "
    assert str(reason(RTX_CELL, replace(FACTS, host_refused="why"), target=L4)).startswith(half_way)
    assert str(reason(RTX_CELL, with_nms, target=L4)).startswith(half_way)
    assert reason(RTX_CELL, FACTS, target=L4) is None
    raw = replace(RTX_CELL, postprocess="none")
    assert reason(raw, replace(with_nms, host_refused="why"), target=L4) is None


INT8 = replace(CELL, precision="int8")


@pytest.mark.parametrize(
    ("cell", "facts", "options", "begins"),
    [
        (INT8, {}, {"converts": True}, None),
        (INT8, {}, {"converts": False}, "int8 by the builder's flag needs a calibration"),
        (replace(INT8, opset=12), {}, {"converts": True}, "int8 needs opset 13 or later"),
        (replace(INT8, opset=13), {}, {"converts": True}, None),
        (replace(INT8, opset=None), {"opset": 12}, {"converts": True}, "int8 needs opset 13"),
        (replace(INT8, opset=None), {}, {"converts": True}, None),
        (
            replace(INT8, postprocess="none"), {}, {"converts": True, "auto": True},
            "int8 auto counts the AP that is lost, and raw outputs have none",
        ),
        (replace(INT8, postprocess="none"), {}, {"converts": True}, None),
        (INT8, {}, {"converts": True, "auto": True}, None),
        (
            INT8, {"mask_frame": "queries"}, {"converts": True, "auto": True},
            "int8 auto counts the box AP that is lost, and this model's boxes are read off",
        ),
        (
            INT8, {"mask_frame": "segments"}, {"converts": True, "auto": True},
            "int8 auto counts the box AP that is lost, and this model's boxes are read off",
        ),
        (INT8, {"mask_frame": "image"}, {"converts": True, "auto": True}, None),
        (INT8, {"mask_frame": "queries"}, {"converts": True}, None),
        (replace(CELL, precision="fp16", opset=11), {}, {"converts": True, "auto": True}, None),
        (
            replace(CELL, precision="bf16", runtime="onnxruntime_tensorrt"), {}, {"converts": True},
            "onnxruntime_tensorrt takes no bf16 file; it lowers the fp32 one itself with "
            "`runtime_options: {onnxruntime_tensorrt: {builder_flags: true}}`",
        ),
        (replace(CELL, precision="bf16", runtime="onnxruntime_tensorrt"), {}, {}, None),
        (
            replace(CELL, precision="fp16", runtime="onnxruntime_tensorrt"), {}, {"converts": True},
            None,
        ),
    ],
)  # fmt: skip
def test_a_precision_is_refused_for_its_reason(
    cell: Cell, facts: dict[str, Any], options: dict[str, bool], begins: str | None
) -> None:
    found = reason(cell, replace(FACTS, **facts), **options)
    assert found is None if begins is None else str(found).startswith(begins), found


def step(needs: Needs | None = None, target: TargetSpec | None = None, tools: Any = ()) -> Step:
    inputs: Any = None
    if target:
        inputs = BuildInputs(Ref("export", "k"), EngineOptions("x", "fp32", FIXED), target)
    return Step("build", "k", "l", inputs, tools, (), needs or Needs(), "c")


GPU = Gpu("NVIDIA L4", "8.9", "580.1")
NODE = Machine("n", "a cpu", {"onnx": "1"}, (GPU,), ("L4", "T4"), 1, 4)
ON_L4 = Needs(accelerator="L4")


def test_a_node_that_has_all_of_it_has_no_reason() -> None:
    assert step_unsupported(step(ON_L4, L4, (("onnx", "1"),)), NODE) is None
    assert step_unsupported(step(Needs(cpus=4), CPU), NODE) is None
    assert step_unsupported(step(), NODE) is None


@pytest.mark.parametrize(
    ("node", "asked", "expected"),
    [
        ({"accelerators": ("T4", "H100")}, step(ON_L4), "node n has T4, H100"),
        ({"accelerators": ()}, step(ON_L4), "node n has no accelerator"),
        ({"accelerators": None}, step(ON_L4, L4), None),
        ({"gpu_count": 0}, step(ON_L4), "node n gives Ray no GPU (`ray start --num-gpus`)"),
        ({"gpu_count": 0}, step(), None),
        ({"cpus": 3.5}, step(Needs(cpus=4)), "node n has 3.5 CPUs"),
        (
            {"no_store": "why"}, step(), "node n does not see the store: why",
        ),
        (
            {}, step(tools=(("onnx", "2"),)),
            "node n has onnx 1, the plan was made with 2: install the same version on both",
        ),
        (
            {}, step(tools=(("onnx", "1"), ("x", "2"))),
            "node n has x None, the plan was made with 2: install the same version on both",
        ),
        (
            {"device": "b cpu"}, step(target=CPU),
            "node n is b cpu, target t is a cpu: name the processor as `device` of a target of its "
            "own",
        ),
        # An engine for a GPU may be built on any processor.
        ({"device": "b cpu"}, step(target=L4), None),
        (
            {"gpus": (replace(GPU, driver="570.2"),)}, step(ON_L4, L4),
            "node n has NVIDIA L4 (8.9, driver 570), and target gpu is L4 (8.9, driver 580): give "
            "these to a target of its own",
        ),
        ({"gpus": (replace(GPU, driver="570.2"), GPU)}, step(ON_L4, L4), None),
        ({"gpus": ()}, step(ON_L4, L4), None),
        ({"gpus": (replace(GPU, driver="570.2"),)}, step(target=L4), None),
    ],
)  # fmt: skip
def test_a_node_is_kept_from_a_step_for_its_reason(
    node: dict[str, Any], asked: Step, expected: str | None
) -> None:
    assert step_unsupported(asked, replace(NODE, **node)) == expected


def test_the_accelerator_alone_is_asked_for_too() -> None:
    assert accelerator_unsupported(step(ON_L4), NODE) is None
    assert accelerator_unsupported(step(Needs(accelerator="A100")), NODE) == "node n has L4, T4"
    assert accelerator_unsupported(step(), replace(NODE, accelerators=())) is None


@pytest.mark.parametrize(
    ("gpu", "fits"),
    [
        (GPU, True), (replace(GPU, name="NVIDIA A10"), False),
        (replace(GPU, compute_capability="8.6"), False), (replace(GPU, driver="579.9"), False),
        (replace(GPU, driver="580.99"), True),
    ],
)  # fmt: skip
def test_a_gpu_is_the_targets_in_model_capability_and_branch(gpu: Gpu, fits: bool) -> None:
    assert (gpu_unsupported(L4, gpu) is None) == fits
    exact = replace(L4, device="NVIDIA L4")
    assert (gpu_unsupported(exact, gpu) is None) == fits
    assert gpu_unsupported(replace(L4, device="NVIDIA L4 Rare"), gpu) is not None
