"""The ONNX file of a detector: written by torch, checked, and the same for the same inputs."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import onnx
import torch

from farm import inputs
from farm.errors import StepFailed
from farm.sources.mmdet import operators
from farm.sources.mmdet.detector import Detector

log = logging.getLogger(__name__)

_IR_VERSION = 10  # what every runtime of the farm reads; onnx itself would write its newest


def export(detector: Detector, shape: inputs.Shape, opset: int, path: Path) -> None:
    """Write `path`: `images` [N, 3, H, W] -> `dets`, `labels`(, `masks`), as `graphs.graph` says.

    Traced at shape.opt. The axes that differ between shape.min and shape.max are dynamic.

    Raises:
        StepFailed: an operator that this opset cannot express, or a file that ONNX refuses.
    """
    module = detector.graph()
    outputs = ["dets", "labels"] + ["masks"] * detector.facts.masks
    images = torch.zeros(shape.opt.as_tuple())
    try:
        with warnings.catch_warnings(), torch.no_grad(), operators.standard(opset):
            _ignore_known_warnings()
            torch.onnx.export(
                module, (images,), str(path), dynamo=False, autograd_inlining=False,
                opset_version=opset, input_names=["images"], output_names=outputs,
                dynamic_axes=_dynamic_axes(shape, outputs),
            )  # fmt: skip
    except (MemoryError, OSError):
        raise  # of the moment: not the model's fault
    except Exception as error:  # the exporter's symbolics raise whatever they meet
        log.error("export at opset %d failed", opset, exc_info=True)
        raise StepFailed(_reason(error, opset)) from error
    _finish(path, opset)


def _dynamic_axes(shape: inputs.Shape, outputs: list[str]) -> dict[str, dict[int, str]]:
    """Also names K, the rows, where smaller images can have fewer of them."""
    batch = {0: "batch"} if shape.dynamic_batch else {}
    size = {2: "height", 3: "width"} if shape.dynamic_size else {}
    count = {1: "detections"} if shape.dynamic_size else {}
    axes = {"images": batch | size} | dict.fromkeys(outputs, batch | count)
    return {name: axis for name, axis in axes.items() if axis}


def _ignore_known_warnings() -> None:
    """Tracing warns of every Python branch in mmdet; those that are passed depend on no input."""
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message="Constant folding - Only steps=1 can be")
    warnings.filterwarnings("ignore", message="Exporting aten::index operator of advanced")


def _reason(error: Exception, opset: int) -> str:
    text = " ".join(str(error).split())
    if match := re.search(r"operator '?([\w:]+)'? to ONNX opset version", text):
        return f"operator {match[1]} cannot be written at opset {opset}; try a higher opset"
    return f"export at opset {opset} failed: {type(error).__name__}: {text[:300]}"


def _finish(path: Path, opset: int) -> None:
    """Remove what says where and when the file was made, check it, write it again."""
    model = onnx.load(str(path))
    model.ir_version = min(model.ir_version, _IR_VERSION)
    model.doc_string = ""
    del model.metadata_props[:]
    _clean(model.graph)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        log.error("the file written at opset %d is not valid", opset, exc_info=True)
        raise StepFailed(_reason(error, opset)) from error
    onnx.save(model, str(path))


def _clean(graph: onnx.GraphProto) -> None:
    graph.name, graph.doc_string = "detector", ""
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                if inner.node:
                    _clean(inner)
