"""ONNX files without what says where and when they were made, and checked; needs no torch."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx

from farm.errors import StepFailed

log = logging.getLogger(__name__)

IR_VERSION = 10  # what every runtime of the farm reads; onnx itself would write its newest

OUTPUTS_WITH_ROWS = ("dets", "labels", "masks", "mask_scores", "boxes", "scores")
"""Outputs in the form of detections, whose axis 1 counts rows; smaller images can have fewer."""


def reason(error: Exception, doing: str) -> str:
    """In one line, what failed and why."""
    return f"{doing} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def finish(path: Path, doing: str) -> None:
    """Remove what says where and when the file was made, check it, write it again.

    Raises:
        StepFailed: ONNX refuses the file; says what was being done.
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
    """Each free axis of a raw output by a name of its own.

    The exporter gives one name to axes of different extents, and a runtime may take what has
    one name for equal.
    """
    for output in graph.output:
        if output.name not in OUTPUTS_WITH_ROWS:
            for axis, dim in enumerate(output.type.tensor_type.shape.dim):
                if dim.dim_param:
                    dim.dim_param = f"{output.name}_{axis}"
