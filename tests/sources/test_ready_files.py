"""Ready ONNX files that cannot be right are refused at `check`, and free axes however written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from farm import specs
from farm.errors import InputError, StepFailed
from farm.sources import onnx as source
from farm.specs import Dims

pytestmark = pytest.mark.slow

CASES = Path(__file__).parents[1] / "cases" / "onnx"

FLOAT = TensorProto.FLOAT


def ready(path: Path, **values: Any) -> specs.OnnxModel:
    return specs.OnnxModel("x", specs.File(str(path), ""), **{"outputs": "raw", **values})


def written(path: Path, axes: list[Any], nodes: list[Any], **values: Any) -> Path:
    taken = [helper.make_tensor_value_info("images", FLOAT, axes)]
    given = values.get("given", [helper.make_tensor_value_info("out", FLOAT, list("abcd"))])
    graph = helper.make_graph(nodes, "g", taken, given, values.get("weights", []))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dangling", "not a valid ONNX file"),
        ("dup_names", "not a valid ONNX file"),
        ("elem_99", "images is type 99 1x3x64x64; expected float Nx3xHxW"),
        ("escape_name", "its output is called"),
        ("external_const_climb", "its weights in other files"),
        ("external_in_subgraph", "its weights in other files"),
        ("huge_dim", "expected up to 1024x3x16384x16384"),
        ("neg_dim", "1x3x-5x64; expected up to"),
        ("no_inputs", "inputs none; expected one, of images"),
        ("no_outputs", "it has no outputs"),
        ("only_custom_opset", "names no opset of ONNX's own operators"),
        ("opset_future", "its opset is 99; onnx"),
        ("opset_neg", "not a valid ONNX file"),
        ("pkl", "not a valid ONNX file"),
        ("random", "not a valid ONNX file"),
        ("seq_input", "images is no tensor"),
        ("slash_output", "its output is called"),
        ("torn", "not a valid ONNX file"),
        ("two_inputs", "inputs images, b; expected one"),
        ("unranked", "not a valid ONNX file"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused_with_its_name(name: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        source.check(ready(CASES / f"{name}.onnx"))
    assert said in str(error.value) and str(error.value).startswith(str(CASES))
    assert str(error.value).isprintable()


def test_what_only_a_run_tells_is_told_by_check(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="its reference, refuses it"):
        source.check(ready(CASES / "custom_op.onnx"))
    with pytest.raises(MemoryError, match="its reference, cannot run it at 1x3x64x64"):
        source.check(ready(CASES / "alloc_100g.onnx"))
    source.check(ready(CASES / "deep_if.onnx"))
    two = helper.make_tensor("two", TensorProto.INT64, [2], [7, 7])
    node = helper.make_node("Reshape", ["images", "two"], ["out"])
    wrong = written(tmp_path / "r.onnx", [1, 3, 64, 64], [node], weights=[two])
    with pytest.raises(StepFailed, match="cannot run it at 1x3x64x64"):
        source.check(ready(wrong))
    named = [
        helper.make_tensor_value_info(name, FLOAT, list("abcd")) for name in ("dets", "labels")
    ]
    nodes = [helper.make_node("Relu", ["images"], [name]) for name in ("dets", "labels")]
    form = written(tmp_path / "f.onnx", [1, 3, 64, 64], nodes, given=named)
    with pytest.raises(StepFailed, match=r"outputs are dets \[1, 3, 64, 64\].*expected dets"):
        source.check(ready(form, outputs="detections"))


def test_an_endless_loop_is_loaded_at_once_and_runs_only_in_check() -> None:
    assert source.load(ready(CASES / "endless_loop.onnx")).facts.input_shape == (1, 3, 64, 64)
    code = (
        "import sys\nfrom farm import specs\nfrom farm.sources import onnx\n"
        "print('go', flush=True)\n"
        "onnx.check(specs.OnnxModel('x', specs.File(sys.argv[1], ''), outputs='raw'))"
    )
    path = str(CASES / "endless_loop.onnx")
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"go\n"
        with pytest.raises(subprocess.TimeoutExpired):  # which the limit of `check` ends
            child.wait(1)
        child.kill()


def test_an_output_that_is_no_tensor_of_numbers_is_refused(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("out", FLOAT, list("abcd"))
    nodes = [helper.make_node("SequenceConstruct", ["images"], ["out"])]
    path = written(tmp_path / "x.onnx", [1, 3, 8, 8], nodes, given=[sequence])
    with pytest.raises(
        InputError, match=r"output out is seq\(tensor\(float\)\), no tensor of numbers"
    ):
        source.check(ready(path))


@pytest.mark.parametrize("place", ["sparse weights", "a function"])
def test_weights_elsewhere_are_refused_wherever_they_are_named(tmp_path: Path, place: str) -> None:
    axes = [1, 3, 8, 8]
    proto = onnx.load(
        str(written(tmp_path / "x.onnx", axes, [helper.make_node("Relu", ["images"], ["out"])]))
    )
    values = helper.make_tensor("w", FLOAT, [1], [1.0])
    values.ClearField("float_data")
    values.data_location = TensorProto.EXTERNAL
    values.external_data.add(key="location", value="side.bin")
    if place == "a function":
        node = helper.make_node("Constant", [], ["c"], value=values)
        opsets = [helper.make_opsetid("", 17)]
        proto.functions.append(helper.make_function("own", "F", [], ["c"], [node], opsets))
        proto.opset_import.append(helper.make_opsetid("own", 1))
    else:
        index = helper.make_tensor("i", TensorProto.INT64, [1], [0])
        proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [4]))
    onnx.save(proto, tmp_path / "x.onnx")
    with pytest.raises(InputError, match="its weights in other files"):
        source.check(ready(tmp_path / "x.onnx"))


def test_raw_outputs_are_no_masks_whatever_their_names(tmp_path: Path) -> None:
    given = [helper.make_tensor_value_info("masks", FLOAT, list("abcd"))]
    nodes = [helper.make_node("Relu", ["images"], ["masks"])]
    path = written(tmp_path / "x.onnx", [1, 3, 8, 8], nodes, given=given)
    assert not source.check(ready(path)).masks


@pytest.mark.parametrize("free", [(-1,) * 3, (0,) * 3, (None,) * 3, ("n", "h", "w"), (-1, "h", 0)])
def test_free_axes_are_free_however_they_are_written(tmp_path: Path, free: Any) -> None:
    import onnxruntime

    axes = [free[0], 3, *free[1:]]
    given = [helper.make_tensor_value_info("out", FLOAT, axes)]
    nodes = [helper.make_node("Relu", ["images"], ["out"])]
    detector = source.load(ready(written(tmp_path / "x.onnx", axes, nodes, given=given)))
    assert detector.facts.input_shape == (None, 3, None, None)
    assert detector.raw(np.ones((2, 3, 40, 50), np.float32))["out"].shape == (2, 3, 40, 50)
    low, opt, high = Dims(1, 3, 32, 32), Dims(2, 3, 64, 96), Dims(4, 3, 128, 128)
    for name, dims in (("d", (low, opt, high)), ("f", (opt, opt, opt))):
        exported = tmp_path / f"{name}.onnx"
        source.export_onnx(detector, specs.Shape(name, *dims), None, exported)
        session = onnxruntime.InferenceSession(exported)
        (found,) = session.run(None, {"images": np.ones(opt.as_tuple(), np.float32)})
        assert found.shape == opt.as_tuple()
    assert session.get_inputs()[0].shape == [2, 3, 64, 96]


def test_sizes_that_a_ready_file_takes_are_found(tmp_path: Path) -> None:
    """A file of YOLO's kind: pooled by 8, enlarged by 8, and joined with what it was."""
    pool = helper.make_node("MaxPool", ["images"], ["small"], kernel_shape=[8, 8], strides=[8, 8])
    scales = helper.make_tensor("scales", FLOAT, [4], [1.0, 1.0, 8.0, 8.0])
    nodes = [
        pool,
        helper.make_node("Resize", ["small", "", "scales"], ["large"]),
        helper.make_node("Add", ["large", "images"], ["out"]),
    ]
    path = written(tmp_path / "x.onnx", ["n", 3, "h", "w"], nodes, weights=[scales])
    assert source.check(ready(path)).sizes == specs.Sizes(8)
    assert source.load(ready(path)).facts.sizes is None  # only `check` runs it
