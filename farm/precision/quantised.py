"""int8: Q/DQ pairs at the inputs and weights of layers, as TensorRT, OpenVINO and others read them.

Symmetric (all zero points 0), weights per channel, biases and outputs in fp32: as TensorRT's
guide recommends. ONNX Runtime's quantiser inserts the pairs; its calibrators measure the range of
every layer's input over real images.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnxruntime.quantization import QuantType, calibrate
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from farm.precision.region import WEIGHTED
from farm.runtimes.onnxruntime.sessions import cpu_session

if TYPE_CHECKING:
    from farm.detections import Floats

BINS = 2048
"""Of the histograms from which percentiles are taken."""

SCALES = "int8_scales_of_added_values"

_OPTIONS: dict[str, Any] = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": True,
    "OpTypesToExcludeOutputQuantization": sorted(WEIGHTED),
    "QDQOpTypePerChannelSupportToAxis": {"Conv": 0, "ConvTranspose": 1, "MatMul": 1, "Gemm": 1},
}


def measure_ranges(
    model: Path,
    names: Sequence[str],
    images: Iterable[Floats],
    method: str,
    percentile: float,
    folder: Path,
    threads: int,
) -> Any:
    """Measure the ranges of the float32 values `names`, as onnxruntime's TensorsData.

    method: `minmax`, `percentile` (of the absolute values, in percent) or `entropy`. images: as
    the graph's one input takes them, one batch after another: all values of a run are in memory.
    """
    calibrator = _calibrator(model, method, percentile, folder / "augmented.onnx")
    known = {name: onnx.helper.make_tensor_value_info(name, 1, None) for name in names}
    calibrator.select_tensors_to_calibrate = lambda graph: (set(names), known)
    calibrator.augment_graph()
    calibrator.infer_session = cpu_session(folder / "augmented.onnx", threads)
    source = calibrator.infer_session.get_inputs()[0].name
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every batch
        for batch in images:
            calibrator.collect_data(_One({source: batch}))
        found = calibrator.compute_data()
    (folder / "augmented.onnx").unlink()
    return found


def _calibrator(model: Path, method: str, percentile: float, augmented: Path) -> Any:
    own: dict[str, Any] = {"augmented_model_path": str(augmented), "symmetric": True}
    if method == "minmax":
        return calibrate.MinMaxCalibrater(str(model), [], **own)
    if method == "entropy":
        return calibrate.EntropyCalibrater(str(model), [], **own)
    return calibrate.PercentileCalibrater(
        str(model), [], num_bins=BINS, percentile=percentile, **own
    )


class _One(calibrate.CalibrationDataReader):  # type: ignore[misc] # ONNX Runtime has no types
    """A reader of one batch, since a calibrator keeps all batches of a reader in memory."""

    def __init__(self, batch: dict[str, Floats]) -> None:
        self._remaining: Iterator[dict[str, Floats]] = iter([batch])

    def get_next(self) -> Any:
        """Return the batch, then None."""
        return next(self._remaining, None)


def inline_weights(graph: onnx.GraphProto) -> None:
    """Let layers read their weights directly: equal ones are exported once, behind Identity."""
    behind = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    weights = {one.name for one in graph.initializer}
    for node in graph.node:
        if node.op_type in WEIGHTED:
            for i, original in enumerate(node.input):
                name = original
                while name in behind:
                    name = behind[name]
                if name in weights:
                    node.input[i] = name


def quantisable(graph: onnx.GraphProto) -> dict[str, str]:
    """Map the layers with constant weights to the value that each reads."""
    weights = {one.name for one in graph.initializer}
    return {
        node.name: node.input[0]
        for node in graph.node
        if node.op_type in WEIGHTED and node.input[1] in weights and node.input[0] not in weights
    }


def inputs_of_additions(graph: onnx.GraphProto, layers: Collection[str]) -> list[str]:
    """Return the outputs of layers that an addition reads.

    A runtime whose additions are in int8 needs their scales.
    """
    read = {name for node in graph.node if node.op_type == "Add" for name in node.input}
    return [node.output[0] for node in graph.node if node.name in layers and node.output[0] in read]


def store_scales(model: onnx.ModelProto, ranges: Any, values: Collection[str]) -> None:
    """Keep the symmetric int8 scales of `values` in the file's metadata, for builders to use."""
    scales = {name: float(np.abs(ranges[name].range_value).max()) / 127 for name in values}
    entry = model.metadata_props.add()
    entry.key, entry.value = SCALES, json.dumps({k: v for k, v in scales.items() if v > 0})


def quantise(model: onnx.ModelProto, ranges: Any, layers: Collection[str]) -> onnx.ModelProto:
    """Return a copy with these layers in int8. ranges: of their inputs, see `measure_ranges`."""
    if not layers:
        return copy.deepcopy(model)
    quantiser = QDQQuantizer(
        copy.deepcopy(model), True, False, QuantType.QInt8, QuantType.QInt8, ranges,
        sorted(layers), [], sorted(WEIGHTED), dict(_OPTIONS),
    )  # fmt: skip
    made = ONNXModel(quantiser.quantize_model())
    _restore_shared_inputs(made.model.graph, layers)
    made.topological_sort()  # it appends its nodes
    result: onnx.ModelProto = made.model
    return result


def _restore_shared_inputs(graph: onnx.GraphProto, layers: Collection[str]) -> None:
    """Let all other layers read a shared weight or input as it was before quantisation."""
    originals = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    pairs = [n for n in graph.node if n.op_type == "DequantizeLinear"]
    originals |= {n.output[0]: originals[n.input[0]] for n in pairs}
    for node in graph.node:
        if node.op_type in WEIGHTED and node.name not in layers:
            for i, name in enumerate(node.input):
                node.input[i] = originals.get(name, name)
