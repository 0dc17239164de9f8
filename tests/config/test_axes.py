"""Which cells a matrix has, what they are called, and what a model's entry may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from farm.config.expand import combinations
from farm.config.loader import Matrix, load_matrix
from farm.config.models import (
    MmdetSpec,
    ModuleSpec,
    OnnxSpec,
    PreprocessSpec,
    dataset_specs,
    model_specs,
)
from farm.config.values import Capability, Driver, Name, Options, Whole
from farm.errors import InputError

MATRIX = """\
name: own
models: {a: {config: a.py, checkpoint: a.pth}}
shapes: {s: {opt: 64x64}}
runtimes: [onnxruntime]
dataset: {type: synthetic}
"""
ONNX = "o: {source: onnx, file: o.onnx, classes: [x]}"
RAW = "o: {source: onnx, file: o.onnx, outputs: raw}"


def read(folder: Path, *overrides: str, models: str = "") -> Matrix:
    (folder / "m.yaml").write_text(
        MATRIX.replace("models: {", f"models: {{{models}, " if models else "models: {")
    )
    return load_matrix(folder / "m.yaml", overrides)


def cells(folder: Path, *overrides: str, models: str = "") -> list[str]:
    return [cell.id for cell in read(folder, *overrides, models=models).cells]


def test_a_cell_is_called_by_its_axes_and_no_default_of_the_graph(tmp_path: Path) -> None:
    assert cells(tmp_path) == ["a.op17.s.fp32.onnxruntime.cpu"]
    assert cells(tmp_path, "postprocess=[graph, host, none]") == [
        "a.op17.s.fp32.onnxruntime.cpu", "a.op17.s.host.fp32.onnxruntime.cpu",
        "a.op17.s.none.fp32.onnxruntime.cpu",
    ]  # fmt: skip
    gpu = ("targets={g: {accelerator: L4}}", "runtimes=[tensorrt]", "workspaces=[1GiB, 512MiB]")
    assert cells(tmp_path, *gpu) == [
        "a.op17.s.fp32.tensorrt.ws1GiB.g", "a.op17.s.fp32.tensorrt.ws512MiB.g",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("runtime", "found"),
    [
        ("torch", ["a.s.fp32.torch.cpu"]),
        ("null", ["a.op16.s.fp32.null.cpu", "a.op17.s.fp32.null.cpu"]),
        (
            "openvino",
            [
                f"a.op{opset}.s.{end}fp32.openvino.cpu"
                for end in ("", "host.") for opset in (16, 17)
            ],
        ),
    ],
)  # fmt: skip
def test_an_axis_that_a_runtime_does_not_have_multiplies_nothing(
    runtime: str, found: list[str], tmp_path: Path
) -> None:
    axes = ("opsets=[16, 17]", "postprocess=[graph, host]", "workspaces=[1GiB, 2GiB]")
    if runtime == "torch":
        found = [*found, "a.s.host.fp32.torch.cpu"]
    assert cells(tmp_path, *axes, f"runtimes=[{runtime}]") == found


def test_runtimes_have_the_targets_and_the_precisions_that_they_can(tmp_path: Path) -> None:
    many = (
        "targets={cpu: {}, g: {accelerator: L4}}", "precisions=[fp32, bf16]",
        "runtimes=[torch, onnxruntime, onnxruntime_cuda, tensorrt]",
    )  # fmt: skip
    assert cells(tmp_path, *many) == [
        "a.s.fp32.torch.cpu", "a.op17.s.fp32.onnxruntime.cpu", "a.op17.s.bf16.onnxruntime.cpu",
        "a.op17.s.fp32.onnxruntime_cuda.g", "a.op17.s.fp32.tensorrt.ws1GiB.g",
        "a.op17.s.bf16.tensorrt.ws1GiB.g",
    ]  # fmt: skip


def test_a_ready_file_has_no_opset_and_ends_where_it_ends(tmp_path: Path) -> None:
    axes = ("opsets=[16, 17]", "postprocess=[graph, host, none]", "runtimes=[onnxruntime, torch]")
    only = "exclude=[{models: [a]}]"
    assert cells(tmp_path, *axes, only, models=ONNX) == ["o.s.fp32.onnxruntime.cpu"]
    assert cells(tmp_path, *axes, only, models=RAW) == ["o.s.none.fp32.onnxruntime.cpu"]
    rule = "include=[{models: [o], postprocess: [none], precisions: [fp16]}]"
    assert cells(tmp_path, only, rule, models=ONNX) == ["o.s.fp32.onnxruntime.cpu"]
    assert cells(tmp_path, only, rule, models=RAW) == [
        "o.s.none.fp32.onnxruntime.cpu", "o.s.none.fp16.onnxruntime.cpu",
    ]  # fmt: skip
    # Neither does a runtime without that axis make a file end elsewhere.
    rule = "include=[{models: [o], postprocess: [graph], runtimes: ['null']}]"
    assert cells(tmp_path, only, rule, models=RAW) == ["o.s.none.fp32.onnxruntime.cpu"]


def test_a_models_own_axes_take_the_place_of_the_matrixs(tmp_path: Path) -> None:
    own = "models.a.opsets=[13]", "models.a.precisions=[fp16]"
    assert cells(tmp_path, *own, models="b: {config: b.py, checkpoint: b.pth}") == [
        "b.op17.s.fp32.onnxruntime.cpu", "a.op13.s.fp16.onnxruntime.cpu",
    ]  # fmt: skip


def test_rules_take_cells_away_and_add_them_once(tmp_path: Path) -> None:
    two = ("opsets=[16, 17]", "runtimes=[onnxruntime, openvino]")
    assert cells(tmp_path, *two, "exclude=[{opsets: [16], runtimes: [openvino]}]") == [
        "a.op16.s.fp32.onnxruntime.cpu", "a.op17.s.fp32.onnxruntime.cpu",
        "a.op17.s.fp32.openvino.cpu",
    ]  # fmt: skip
    assert cells(tmp_path, *two, "exclude=[{opsets: [16]}, {runtimes: [openvino]}]") == [
        "a.op17.s.fp32.onnxruntime.cpu"
    ]
    rules = "include=[{opsets: [15], runtimes: [openvino]}, {opsets: [17], runtimes: [openvino]}]"
    found = cells(tmp_path, *two, rules)
    assert len(found) == 5 and found[-1] == "a.op15.s.fp32.openvino.cpu"
    one = cells(tmp_path, "include=[{models: [b], opsets: [15]}]",
                models="b: {config: b.py, checkpoint: b.pth}")  # fmt: skip
    assert one[2:] == ["b.op15.s.fp32.onnxruntime.cpu"]
    # What an exclude takes away, an include gives back.
    both = ("exclude=[{opsets: [17]}]", "include=[{opsets: [17]}]")
    assert cells(tmp_path, *both) == ["a.op17.s.fp32.onnxruntime.cpu"]


def test_combinations_are_counted_before_they_are_made(tmp_path: Path) -> None:
    spec = read(
        tmp_path, "opsets=[15, 16, 17]", "precisions=[fp32, fp16]",
        "include=[{opsets: [14]}, {models: [a], opsets: [13]}]",
        models="b: {config: b.py, checkpoint: b.pth}",
    ).spec  # fmt: skip
    assert combinations(spec) == 2 * 6 + 2 * 2 + 2


def test_sources_and_data_sets_have_their_models() -> None:
    assert model_specs() == {"mmdet": MmdetSpec, "module": ModuleSpec, "onnx": OnnxSpec}
    assert set(dataset_specs()) == {"coco", "config", "custom", "synthetic", "voc"}


def test_what_is_not_said_of_a_model_has_its_default() -> None:
    assert PreprocessSpec().model_dump() == {
        "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "to_rgb": True, "keep_ratio": True,
        "pad": None, "pad_value": 0.0,
    }  # fmt: skip
    mmdet = MmdetSpec(config="c", checkpoint="p")
    assert (mmdet.source, mmdet.cfg_options, mmdet.allow_pickle, mmdet.labels) == (
        "mmdet", {}, False, [],
    )  # fmt: skip
    module = ModuleSpec(source="module", function="a.b:c", classes=["x"])
    assert (module.checkpoint, module.options, module.allow_pickle) == (None, {}, False)
    assert module.clip_boxes is True and module.ends_at == "graph" and module.simplify is None
    assert module.keep_fp32 is None and module.opsets is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "onnx", "file": "f"}, "give its `classes` in the order of its labels"),
        ({"source": "onnx", "file": "f", "classes": ["x"], "postprocess": ["host"]},
         "its graph is not cut: leave `postprocess` out"),
        ({"source": "onnx", "file": "f", "classes": ["x"], "opsets": [17]},
         "a ready ONNX file has its own opset: leave `opsets` out"),
        ({"source": "onnx", "file": "f", "outputs": "raw", "clip_boxes": True},
         "raw outputs are no boxes: leave `clip_boxes` out"),
        ({"source": "onnx", "file": "f", "classes": ["x", "x"]}, "'x' stands twice"),
        ({"source": "onnx", "file": "f", "classes": ["x"], "preprocess": {"std": [1, 0, 1]}},
         "a deviation is over 0"),
        ({"source": "onnx", "file": "f", "classes": ["x"], "preprocess": {"std": [1, -1, 1]}},
         "a deviation is over 0"),
        ({"source": "module", "function": "__main__:f", "classes": ["x"]}, "`__main__` is the"),
        ({"source": "module", "function": "__main__.x:f", "classes": ["x"]}, "`__main__` is the"),
        ({"source": "module", "function": "f", "classes": ["x"]}, "should match pattern"),
    ],
)  # fmt: skip
def test_a_models_entry_fits_together(values: dict[str, Any], message: str) -> None:
    kind: Any = {"onnx": OnnxSpec, "module": ModuleSpec}[values["source"]]
    with pytest.raises(ValidationError) as error:
        kind(**values)
    assert message in str(error.value)


def test_a_models_entry_may_say_what_fits() -> None:
    raw = OnnxSpec(source="onnx", file="f", outputs="raw")
    assert raw.ends_at == "none" and raw.classes == []
    assert OnnxSpec(source="onnx", file="f", outputs="raw", classes=["x"]).classes == ["x"]
    clipped = OnnxSpec(source="onnx", file="f", classes=["x"], clip_boxes=False)
    assert clipped.clip_boxes is False
    small: Any = {"std": [1e-9, 1, 1]}
    assert PreprocessSpec(**small).std == (1e-9, 1.0, 1.0)
    assert ModuleSpec(source="module", function="__main__x:f", outputs="raw").opsets is None
    opsets = ModuleSpec(source="module", function="m:f", outputs="raw", opsets=[17])
    assert opsets.opsets == [17]


def valid(kind: Any, value: Any) -> Any:
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (Name, "a" * 100, "a" * 100), (Name, "0_-", "0_-"), (Capability, 8.9, "8.9"),
        (Capability, "12.0", "12.0"), (Driver, 580, "580"), (Driver, 580.65, "580.65"),
        (Driver, "580.95.05", "580.95.05"), (Whole, "17", 17), (Whole, 3, 3),
        (Options, {"a": [1, {"b": None}], "c": True, "d": 1.5}, None),
        (Options, {"a": (1, 2), "b": {"c": (1,)}}, None),
    ],
)  # fmt: skip
def test_a_value_is_taken(kind: Any, value: Any, found: Any) -> None:
    assert valid(kind, value) == (value if found is None else found)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Name, "a" * 101, "is not a name"), (Name, "", "is not a name"), (Name, "-a", "is not a"),
        (Name, "a b", "is not a name"), (Capability, 8, "is not a compute capability, as 8.9"),
        (Capability, "8.99", "is not a compute capability"), (Capability, "x", "is not a compute"),
        (Driver, "580.x", "is not a driver's version or branch, as 580"),
        (Whole, True, "a number is expected, not true"), (Whole, False, "not false"),
        (Options, {"a": float("nan")}, "only text, finite numbers"),
        (Options, {"a": {1: 2}}, "only text, finite numbers"),
        (Options, {"a": {1}}, "only text, finite numbers"),
    ],
)  # fmt: skip
def test_a_value_is_refused(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(ValidationError) as error:
        valid(kind, value)
    assert message in str(error.value)


def test_an_axis_has_a_value_at_least_and_none_twice(tmp_path: Path) -> None:
    for wrong, message in (
        ("opsets=[]", "'opsets' is empty"), ("opsets=[17, 17]", "'17' stands twice"),
        ("precisions=[fp8]", "unknown precision 'fp8'; expected one of"),
        ("workspaces=[]", "'workspaces' is empty"), ("postprocess=[gpu]", "unknown postprocess"),
        ("models.a.opsets=[]", "'models.a.opsets' is empty"),
    ):  # fmt: skip
        with pytest.raises(InputError) as error:
            read(tmp_path, wrong)
        assert message in str(error.value)
