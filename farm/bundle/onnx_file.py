"""The ONNX file as it leaves: as its runtime reads it, with named axes and how to use it.

That is written when a file leaves the store (`farm bundle`, `farm export`) and not by the stage
`export`: names and preprocessing are facts of the model's `check`, and models that differ in these
alone share one export.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

_AXES: Mapping[str, tuple[str | int, ...]] = {
    "images": ("batch", 3, "height", "width"),
    "dets": ("batch", "detections", 5),
    "labels": ("batch", "detections"),
    "masks": ("batch", "detections", "mask_height", "mask_width"),
    "mask_scores": ("batch", "detections"),
}
"""Of the farm's outputs: the name of each free axis, or its extent."""

_CANDIDATES: Mapping[str, tuple[str | int, ...]] = {
    "images": ("batch", 3, "height", "width"),
    "boxes": ("batch", "candidates", 4),
    "scores": ("batch", "candidates"),
    "labels": ("batch", "candidates"),
}
"""Of a graph that ends before its suppression."""


def as_read(path: Path, runtime: str, precision: str) -> onnx.ModelProto:
    """Return the file as the runtime's adapter reads it: on CPUs some precisions are rewritten."""
    if precision == "int8" and runtime == "openvino":
        from farm.precision.unsigned import shifted

        return shifted(path)
    if runtime == "onnxruntime" and precision in ("int8", "bf16"):
        from farm.runtimes.onnxruntime import cpu_files

        rewritten = cpu_files.unsigned if precision == "int8" else cpu_files.emulated
        return onnx.load_from_string(rewritten(path))
    return onnx.load(str(path))


def name_axes(model: onnx.ModelProto) -> None:
    """Give the axes of inputs and outputs in the farm's format their names.

    An exporter names a free axis after the node that makes it, as `Concatdets_dim_2`.
    """
    names = {one.name for one in model.graph.output}
    if not ({"dets", "labels"} <= names or {"boxes", "scores", "labels"} <= names):
        return
    known = _AXES if "dets" in names else _CANDIDATES
    renamed: dict[str, str] = {}
    for value in (*model.graph.input, *model.graph.output):
        axes, dims = known.get(value.name, ()), value.type.tensor_type.shape.dim
        if len(axes) != len(dims):
            continue
        for dim, axis in zip(dims, axes, strict=True):
            if dim.HasField("dim_value"):
                continue
            if isinstance(axis, int):
                dim.dim_value = axis
            else:
                if dim.dim_param:
                    renamed.setdefault(dim.dim_param, axis)
                dim.dim_param = axis
    for value in model.graph.value_info:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param and dim.dim_param in renamed:
                dim.dim_param = renamed[dim.dim_param]


def set_metadata(model: onnx.ModelProto, values: Mapping[str, Any]) -> None:
    """Set entries of `metadata_props`: texts as they are, other values as JSON."""
    kept = [one for one in model.metadata_props if one.key not in values]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    for key, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=key, value=text)


def described(path: Path, values: Mapping[str, Any]) -> bytes:
    """Return the file with named axes, and with these entries of `metadata_props`."""
    model = onnx.load(str(path))
    name_axes(model)
    set_metadata(model, values)
    return bytes(model.SerializeToString())


def metadata(path: Path) -> dict[str, str]:
    """Return the entries of `metadata_props`. Raises OSError, and ValueError for no ONNX file."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise ValueError(str(error)) from None
    return {one.key: one.value for one in model.metadata_props}


def input_name(model: onnx.ModelProto) -> str:
    """Return the name of the input of images."""
    weights = {one.name for one in model.graph.initializer}
    return next(str(one.name) for one in model.graph.input if one.name not in weights)


def opset(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators."""
    return int(next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx")))


def most_detections(model: onnx.ModelProto) -> int | None:
    """Return the extent of K in the output `dets` [N, K, 5]; None where it is free."""
    dims = [one.type.tensor_type.shape.dim for one in model.graph.output if one.name == "dets"]
    return int(dims[0][1].dim_value) or None if dims and len(dims[0]) == 3 else None
