"""What bundle.json, ONNX files and Triton's configuration say of a model."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from farm.bundle import manifest, onnx_file, pipeline, triton
from farm.specs import Dims, ModelFacts, Shape, Suppression
from farm.specs.pipeline import CentrePad, Decode, Normalize, Pad, Pipeline, Resize, Step

FIXED = Shape("fixed", *[Dims(1, 3, 96, 128)] * 3)
DYNAMIC = Shape("dynamic", Dims(1, 3, 32, 32), Dims(1, 3, 96, 160), Dims(4, 3, 512, 512))
PLAIN = Decode()
NORMAL = Normalize((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


def described(*steps: Step, decode: Decode = PLAIN, shape: Shape = FIXED) -> dict[str, Any]:
    return pipeline.description(pipeline.pipeline_for(Pipeline(decode, steps).text, shape))


def test_padding_is_described_by_place_value_and_time() -> None:
    after = {"where": "on the right and below", "value": [0.0] * 3, "when": "after normalising"}
    assert described(Resize(), NORMAL)["pad"] == after  # a fixed shape is always filled
    assert described(Resize(), NORMAL, shape=DYNAMIC)["pad"] is None
    grey = Pad(square=True, value=(114.0,) * 3)
    found = described(Resize(), grey, NORMAL)["pad"]
    assert found["when"] == "before normalising" and found["value"] == [114.0] * 3
    centred = CentrePad("size_divisor", 32)
    assert described(Resize(), NORMAL, centred)["pad"]["where"] == "on all sides"


def test_channels_are_described_as_the_network_takes_them() -> None:
    bgr = Normalize((0.0,) * 3, (1.0,) * 3, to_rgb=False)
    rgb = Decode(channel_order="rgb")
    assert described(Resize(), NORMAL)["channel_order"] == "RGB"
    assert described(Resize(), bgr)["channel_order"] == "BGR"
    assert described(Resize(), bgr, decode=rgb)["channel_order"] == "RGB"
    assert described(Resize(), NORMAL, decode=rgb)["channel_order"] == "BGR"
    found = described(Resize())
    assert found["channel_order"] == "BGR"
    assert found["mean"] == [0.0] * 3 and found["std"] == [1.0] * 3


def test_resizing_is_described_by_its_rule() -> None:
    assert described(Resize())["resize"]["rule"].startswith("to fit the shape, with the aspect")
    found = described(Resize(keep_ratio=False, interpolation="area"))["resize"]
    assert found == {"rule": "to fill the shape", "interpolation": "area"}
    assert "by 0.5" in described(Resize(factor=0.5), shape=DYNAMIC)["resize"]["rule"]


def model(outputs: dict[str, tuple[Any, ...]], batch: Any = "batch") -> onnx.ModelProto:
    """A file with outputs of these extents, each made from the images."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, "h", "w"])
    values = [
        helper.make_tensor_value_info(
            name, TensorProto.INT64 if name == "labels" else TensorProto.FLOAT, dims
        )
        for name, dims in outputs.items()
    ]
    nodes = [helper.make_node("Identity", ["images"], [name]) for name in outputs]
    inner = helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["Concatdets_dim_1"])
    return helper.make_model(
        helper.make_graph(nodes, "g", [images], values, value_info=[inner]),
        opset_imports=[helper.make_opsetid("", 17)],
    )


def extents(file: onnx.ModelProto) -> dict[str, list[Any]]:
    values = (*file.graph.input, *file.graph.output, *file.graph.value_info)
    return {
        one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in values
    }


def test_axes_of_outputs_in_the_farms_form_are_named() -> None:
    file = model(
        {
            "dets": ("batch", "Concatdets_dim_1", "Concatdets_dim_2"),
            "labels": ("batch", "Castlabels_dim_1"),
            "masks": ("batch", "Concatdets_dim_1", 28, 28),
        }
    )
    onnx_file.name_axes(file)
    assert extents(file) == {
        "images": ["batch", 3, "height", "width"],
        "dets": ["batch", "detections", 5],
        "labels": ["batch", "detections"],
        "masks": ["batch", "detections", 28, 28],
        "inner": ["detections"],
    }
    host = model({"boxes": (1, "a", "b"), "scores": (1, "c"), "labels": (1, "d")}, batch=1)
    onnx_file.name_axes(host)
    assert extents(host)["boxes"] == [1, "candidates", 4]
    raw = model({"cls": (1, "a"), "labels": (1, "b")})
    before = raw.SerializeToString()
    onnx_file.name_axes(raw)
    assert raw.SerializeToString() == before  # outputs of another form are left alone


ONE_STAGE = {"score_thr": 0.05, "max_per_img": 100, "nms_pre": 1000}
TWO_STAGE = {"rpn": {"max_per_img": 1000}, "rcnn": {"score_thr": 0.1, "max_per_img": 50}}
NMS = Suppression(0.5, False, 80)


@pytest.mark.parametrize(
    ("settings", "in_file", "suppression", "postprocess", "threshold", "most"),
    [
        (ONE_STAGE, None, None, "graph", 0.05, 100),
        (ONE_STAGE, 90, None, "graph", 0.05, 90),
        (TWO_STAGE, None, None, "graph", 0.1, 50),
        ({"max_per_image": 20}, None, None, "graph", None, 20),
        (ONE_STAGE, None, NMS, "host", 0.05, 80),
        (ONE_STAGE, 90, NMS, "graph", 0.05, 90),
        (None, 7, None, "graph", None, 7),
        (None, None, None, "graph", None, None),
    ],
)
def test_what_bounds_the_detections_is_said(
    settings: dict[str, Any] | None, in_file: int | None, suppression: Suppression | None,
    postprocess: str, threshold: float | None, most: int | None,
) -> None:  # fmt: skip
    text = json.dumps(settings) if settings else ""
    facts = ModelFacts(("a",), False, "", suppression=suppression, test_settings=text)
    evaluate = SimpleNamespace(inputs={"clip": True})
    row = {"postprocess": postprocess}
    cell: Any = SimpleNamespace(facts=facts, row=row, records={"evaluate": evaluate})
    found = manifest._postprocess(cell, in_file)
    assert found["score_threshold"] == threshold and found["max_detections"] == most
    assert (found["suppression"] is None) == (postprocess == "graph")
    assert manifest._test_settings(facts) == settings


def test_an_onnx_file_bounds_its_detections_where_their_axis_is_fixed() -> None:
    assert onnx_file.most_detections(model({"dets": (1, 100, 5), "labels": (1, 100)})) == 100
    assert onnx_file.most_detections(model({"dets": ("batch", "k", 5)})) is None
    assert onnx_file.most_detections(model({"boxes": (1, 300, 4)})) is None


def test_metadata_replaces_its_own_entries_and_keeps_others(tmp_path: Path) -> None:
    file = model({"dets": (1, 2, 5), "labels": (1, 2)})
    onnx_file.set_metadata(file, {"int8_scales": "x", "names": ["old"]})
    onnx_file.set_metadata(file, {"names": ["a", "b"], "farm": "1"})
    onnx.save(file, tmp_path / "m.onnx")
    found = onnx_file.metadata(tmp_path / "m.onnx")
    assert found == {"int8_scales": "x", "names": json.dumps(["a", "b"]), "farm": "1"}
    (tmp_path / "m.onnx").write_bytes(b"no ONNX file")
    with pytest.raises(ValueError):
        onnx_file.metadata(tmp_path / "m.onnx")


def test_triton_chooses_the_batch_where_it_is_free() -> None:
    outputs = {"dets": ("batch", "detections", 5), "labels": ("batch", "detections")}
    text = triton.config("m", "onnxruntime", model(outputs), DYNAMIC)
    assert "max_batch_size: 4\n" in text and "dims: [ 3, -1, -1 ]\n" in text
    assert 'name: "dets"\n    data_type: TYPE_FP32\n    dims: [ -1, 5 ]\n' in text
    assert 'name: "labels"\n    data_type: TYPE_INT64\n    dims: [ -1 ]\n  }' in text
    assert "label_filename" not in text  # by which Triton would name places, not labels
    fixed = {name: (1, *dims[1:]) for name, dims in outputs.items()}
    text = triton.config("m", "openvino", model(fixed, batch=1), FIXED)
    assert "max_batch_size: 0\n" in text and "dims: [ 1, 3, -1, -1 ]\n" in text
    assert "dims: [ 1, -1, 5 ]\n" in text


def test_an_axis_without_a_name_gives_none_to_the_extents_of_others() -> None:
    file = model({"dets": (None, None, 5), "labels": (None, None)}, batch=None)
    inner = helper.make_tensor_value_info("fixed", TensorProto.FLOAT, [1, 16, 32, 32])
    file.graph.value_info.append(inner)
    onnx_file.name_axes(file)
    assert extents(file)["fixed"] == [1, 16, 32, 32]
    assert extents(file)["dets"] == ["batch", "detections", 5]


def test_an_engine_is_of_the_kind_of_machine_that_its_instruction_sets_are_of() -> None:
    assert manifest._machine(["avx2", "avx512f"]) == "x86_64"
    assert manifest._machine(["asimd", "bf16"]) == "aarch64"
    assert manifest._machine([]) == platform.machine()
