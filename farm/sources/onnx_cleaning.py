"""Removes from ONNX files what depends on machine and time, and checks them; needs no torch."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx

from farm.errors import StepFailed

log = logging.getLogger(__name__)

IR_VERSION = 10  # every runtime of the farm reads it; by default onnx writes its newest

OUTPUTS_WITH_ROWS = ("dets", "labels", "masks", "mask_scores", "boxes", "scores")
"""Outputs of detections, whose axis 1 counts rows; smaller images can have fewer rows."""


def reason(error: Exception, doing: str) -> str:
    """Return in one line what failed and why."""
    return f"{doing} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def finish(path: Path, doing: str) -> None:
    """Remove what depends on machine and time from the file, check it, and write it again.

    doing: the operation that wrote the file, for the message.

    Raises:
        StepFailed: ONNX's checker refuses the file; the message names the operation.
    """
    model = onnx.load(str(path))
    model.ir_version = min(model.ir_version, IR_VERSION)
    model.doc_string = ""
    del model.metadata_props[:]
    _clean(model.graph)
    _name_free_axes(model.graph)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        log.error("%s: the file is not valid", doing, exc_info=True)
        raise StepFailed(reason(error, doing)) from error
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


def _name_free_axes(graph: onnx.GraphProto) -> None:
    """Gives each dynamic axis of a raw output a unique name.

    The exporter may give one name to axes of different extents, and a runtime may assume that axes
    of one name are equal.
    """
    for output in graph.output:
        if output.name not in OUTPUTS_WITH_ROWS:
            for axis, dim in enumerate(output.type.tensor_type.shape.dim):
                if dim.dim_param:
                    dim.dim_param = f"{output.name}_{axis}"
