"""ONNX files: written by torch, cleaned, checked, the same for the same inputs."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from farm import specs
from farm.errors import StepFailed

log = logging.getLogger(__name__)

IR_VERSION = 10  # what every runtime of the farm reads; onnx itself would write its newest

_OURS = ("dets", "labels", "masks", "mask_scores", "boxes", "scores")
"""Outputs in our own form, whose axis 1 counts rows; smaller images can have fewer."""


def tensors(values: Any) -> Iterator[Tensor]:
    """The tensors of nested lists, tuples and mappings, in their order."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors(value)


def write(module: Any, shape: specs.Shape, opset: int, path: Path) -> None:
    """Write `path`: `images` [N, 3, H, W] -> the outputs that `module.outputs` names.

    Traced at shape.opt. The axes that differ between shape.min and shape.max are dynamic. A module
    that knows its outputs only once it has run is run once before.

    Raises:
        StepFailed: an operator that this opset cannot express, or a file that ONNX refuses.
    """
    images = torch.zeros(shape.opt.as_tuple())
    try:
        with warnings.catch_warnings(), torch.no_grad():
            _ignore_known_warnings()
            if not module.outputs:
                module(images)
            torch.onnx.export(
                module, (images,), str(path), dynamo=False, autograd_inlining=False,
                opset_version=opset, input_names=["images"], output_names=list(module.outputs),
                dynamic_axes=_dynamic_axes(shape, module.outputs),
            )  # fmt: skip
    except (MemoryError, OSError, StepFailed):
        raise  # of the moment, or told already by the module itself
    except Exception as error:  # the exporter's symbolics raise whatever they meet
        log.error("export at opset %d failed", opset, exc_info=True)
        lacking = _lacking_operator(error, opset)
        raise StepFailed(lacking or reason(error, f"export at opset {opset}")) from error
    finish(path, f"export at opset {opset}")


def _dynamic_axes(shape: specs.Shape, outputs: tuple[str, ...]) -> dict[str, dict[int, str]]:
    """The axes of raw outputs are left to the exporter, which follows them through the graph."""
    batch = {0: "batch"} if shape.dynamic_batch else {}
    size = {2: "height", 3: "width"} if shape.dynamic_size else {}
    axes = {"images": batch | size}
    rows = "candidates" if "boxes" in outputs else "detections"
    for name in outputs:
        if name in _OURS:
            axes[name] = batch | ({1: rows} if shape.dynamic_size else {})
    return {name: axis for name, axis in axes.items() if axis}


def _ignore_known_warnings() -> None:
    """Tracing warns of every Python branch; those that are passed depend on no input."""
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message="Constant folding - Only steps=1 can be")
    warnings.filterwarnings("ignore", message="Exporting aten::index operator of advanced")


def _lacking_operator(error: Exception, opset: int) -> str | None:
    match = re.search(r"operator '?([\w:]+)'? to ONNX opset version", str(error))
    return match and f"operator {match[1]} cannot be written at opset {opset}; try a higher opset"


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
        if output.name not in _OURS:
            for axis, dim in enumerate(output.type.tensor_type.shape.dim):
                if dim.dim_param:
                    dim.dim_param = f"{output.name}_{axis}"
