"""Faults planted in a detector's file are found by the names of their nodes."""

from __future__ import annotations

import onnx
import planted
import pytest
from planted_search import TOLERANCE, searched

from farm.bisect.calls import in_users_model, module_of
from farm.precision import region, typed

SEEDS = range(20)


@pytest.mark.slow
def test_faults_are_found_by_name() -> None:
    """Of four kinds, on two runtimes. One of them changes nothing: a weight of a dead channel."""
    missed = {}
    for seed in SEEDS:
        kind = planted.KINDS[seed % 4]
        runtime = ("onnxruntime", "openvino")[seed // 4 % 2]
        model = planted.detector(seed)
        fault = planted.plant(model, kind, seed)
        graph, located = searched(model, fault.model, seed, runtime)
        found = located.found
        if found is None or graph.node(found.value).name != fault.node:
            missed[seed] = (kind, fault.node, found)
            continue
        assert found.difference.relative > TOLERANCE and not found.between
        assert all(one.relative < 1e-5 for one in found.inputs.values())
        assert located.own is not None and located.own.relative > TOLERANCE
    assert len(SEEDS) - len(missed) >= 19, missed


def test_a_fault_is_found_in_little_memory() -> None:
    model = planted.detector(0)
    fault = planted.plant(model, "weight", 0)
    graph, located = searched(model, fault.model, memory=1 << 14)
    assert located.found and graph.node(located.found.value).name == fault.node
    # The value that is known to differ is read out beside those that are chosen by the memory.
    largest = 4 * planted.CHANNELS * (planted.SIZE // 2) ** 2
    assert located.most_bytes <= (1 << 14) + largest
    _, more = searched(model, fault.model, memory=1 << 24)
    assert more.passes < located.passes and more.most_bytes > located.most_bytes


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_fault_is_found_in_a_file_of_a_lower_precision(precision: str) -> None:
    """Its own names stand for values that it has in the lower precision alone."""
    model = planted.detector(8)
    fault = planted.plant(model, "weight", 8)
    region.prepare(fault.model.graph)
    assert fault.node in typed.reduce_precision(fault.model, precision, [])
    graph, located = searched(model, fault.model, 8, precision=precision, tolerance=0.02)
    assert located.found and graph.node(located.found.value).name == fault.node
    assert all(0 < one.relative < 0.02 for one in located.found.inputs.values())
    assert located.own is not None and located.own.relative > 0.02


def test_rounding_that_adds_up_is_no_fault_of_the_last_node() -> None:
    model = planted.detector(8)
    lower = onnx.ModelProto()
    lower.CopyFrom(model)
    region.prepare(lower.graph)
    typed.reduce_precision(lower, "bf16", [])
    graph, located = searched(model, lower, 8, precision="bf16", tolerance=0.006)
    assert located.found is not None and located.own is not None and located.worst is not None
    assert located.own.relative <= 0.006 < located.found.difference.relative
    assert located.worst.value in graph.behind(located.found.value, ())
    assert 0.001 < located.worst.difference.relative < 0.006  # bf16 keeps 8 bits


def test_a_copy_without_fault_leaves_nothing() -> None:
    model = planted.detector(3)
    _, located = searched(model, model)
    assert located.found is None and not located.given


def test_a_selection_that_takes_another_of_nearly_equal_rows_is_no_fault() -> None:
    """What moves scores by less than the tolerance may move the ranks of rows."""
    model = planted.detector(2)
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    for part in (model, moved):  # scores that hardly differ from place to place
        _scale(part, "bbox_head/cls.weight", 1e-5)
    _scale(moved, "bbox_head/cls.weight", -1.0)  # best becomes worst, by less than the tolerance
    graph, located = searched(model, moved)
    assert located.found is None, located.found
    operators = {node.name: node.op_type for node in graph.nodes}
    assert "TopK" in {operators[name] for name in located.given}


def _scale(model: onnx.ModelProto, name: str, factor: float) -> None:
    weight = next(one for one in model.graph.initializer if one.name == name)
    values = onnx.numpy_helper.to_array(weight) * factor
    weight.CopyFrom(onnx.numpy_helper.from_array(values.astype("float32"), name))


@pytest.mark.parametrize(
    ("node", "module"),
    [
        ("/backbone/layer1/layer1.0/conv1/Conv", "backbone.layer1.0.conv1"),
        ("/neck/lateral_convs.0/conv/Conv", "neck.lateral_convs.0.conv"),
        ("/Concat_21", ""),
        ("Conv_7", ""),
        ("", ""),
    ],
)
def test_a_node_name_tells_the_module(node: str, module: str) -> None:
    assert module_of(node) == module


@pytest.mark.parametrize(
    "runtime", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)]
)
def test_a_choice_that_is_an_output_itself_is_given_too(runtime: str) -> None:
    """Labels that change where two classes score nearly the same: no fault."""
    model = planted.detector(5)
    label = next(node for node in model.graph.node if node.op_type == "ArgMax")
    del model.graph.output[1:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(label.output[0], 7, None))
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    for part in (model, moved):
        _scale(part, "bbox_head/cls.weight", 1e-5)
        _scale(part, "bbox_head/cls.bias", 0)
    _scale(moved, "bbox_head/cls.weight", -1.0)
    loose = searched(model, moved, runtime=runtime, tolerance=3.0)[1]
    assert loose.found is None and label.name in loose.given


@pytest.mark.parametrize(
    ("exported", "own"),
    [
        ("model.neck.fpn_convs.1.bn", "neck.fpn_convs.1.bn"),
        ("module.model.neck", "model.neck"),
        ("stages.0.bn1", "stages.0.bn1"),
        ("model", "model"),
    ],
)
def test_a_module_has_its_name_in_the_users_model(exported: str, own: str) -> None:
    assert in_users_model(exported) == own
