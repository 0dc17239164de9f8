"""OpenVINO's IR of a bundle, which OpenVINO Model API opens by what `rt_info/model_info` says.

The IR takes the image itself: uint8 [1, H, W, 3] of BGR, of any size. Resizing, normalising and
padding are in it, since Model API's own preprocessing pads before it normalises, with one value for
all channels, and MMDetection's models pad after it. Model API's `SSD` takes outputs as the farm's:
boxes [1, K, 5] in pixels of the network's input, and labels [1, K]. It passes masks over; its
`MaskRCNN` (0.4.7) fails on a model that has its preprocessing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from farm.bundle.pipeline import pipeline_for
from farm.runtimes.openvino.adapter import core_with_operators
from farm.specs.pipeline import Decode, Normalize, Pad, Pipeline, Resize

if TYPE_CHECKING:
    from farm.bundle.cells import FinishedCell

FILE = "openvino/model.xml"

_MODES = {"nearest": "nearest", "bilinear": "linear_onnx", "bicubic": "cubic"}


def why_not(cell: FinishedCell) -> str | None:
    """Return why Model API cannot run the cell's detector; None where it can."""
    shape = cell.options.shape
    if cell.row["postprocess"] != "graph":
        return "its suppression is not in the graph"
    if shape.dynamic or shape.opt.n != 1:
        return "its shape is not fixed to one image"
    if cell.facts.masks and cell.facts.mask_frame in ("segments", "queries"):
        return "its boxes are those around its masks"
    found = pipeline_for(cell.facts.pipeline, shape)
    known = all(
        isinstance(one, Normalize | Pad)
        or (isinstance(one, Resize) and one.interpolation in _MODES)
        for one in found.steps
    )
    kinds = [type(one) for one in found.steps]
    early = Normalize in kinds[: kinds.index(Resize)] or found.decode.to_float32
    plain = found.decode.color_type == Decode().color_type and not early
    return None if known and plain else "it has preprocessing that OpenVINO has not"


def write(cell: FinishedCell, onnx: Path, path: Path) -> None:
    """Write `path` (.xml, and .bin beside it) from the bundle's ONNX file."""
    model = core_with_operators().read_model(onnx)
    height, width = cell.options.shape.opt.h, cell.options.shape.opt.w
    found = pipeline_for(cell.facts.pipeline, cell.options.shape)
    model = _taking_images(model, found, height, width)
    for name, value in _model_info(cell, found, height, width).items():
        model.set_rt_info(value, ["model_info", name])
    path.parent.mkdir()
    ov.save_model(model, str(path), compress_to_fp16=False)


def _model_info(cell: FinishedCell, pipeline: Pipeline, height: int, width: int) -> dict[str, str]:
    """Return the parameters of Model API's wrapper. Names of labels are separated by spaces."""
    keeps = next(one.keep_ratio for one in pipeline.steps if isinstance(one, Resize))
    return {
        "model_type": "SSD",
        "labels": " ".join(name.replace(" ", "_") for name in cell.facts.classes),
        "confidence_threshold": "0.0",  # the config's own is in the graph
        "resize_type": "fit_to_window" if keeps else "standard",
        "embedded_processing": "True",
        "orig_height": str(height),
        "orig_width": str(width),
    }


def _taking_images(model: ov.Model, pipeline: Pipeline, height: int, width: int) -> ov.Model:
    """Return the model with the pipeline before it."""
    (old,) = model.get_parameters()
    image = ops.parameter(ov.PartialShape([1, -1, -1, 3]), np.uint8, name="image")
    image.output(0).set_names({"image"})
    value = ops.convert(ops.transpose(image, np.array([0, 3, 1, 2])), np.float32)
    if pipeline.decode.channel_order == "rgb":
        value = _swapped(value)
    for step in pipeline.steps:
        if isinstance(step, Resize):
            value = _resized(value, step, height, width)
        elif isinstance(step, Normalize):
            value = _swapped(value) if step.to_rgb else value
            value = (value - _by_channel(step.mean)) / _by_channel(step.std)
        elif isinstance(step, Pad):
            value = _padded(value, step, height, width)
    value = ops.reshape(value, np.array([1, 3, height, width]), False)
    for target in old.output(0).get_target_inputs():
        target.replace_source_output(value.output(0))
    image.set_layout(ov.Layout("NHWC"))
    return ov.Model(model.get_results(), [image], model.get_friendly_name())


def _by_channel(values: tuple[float, float, float]) -> ov.Node:
    return ops.constant(np.array(values, np.float32).reshape(1, 3, 1, 1))


def _number(value: float) -> ov.Node:
    return ops.constant(np.array(value, np.float32))


def _swapped(value: ov.Node) -> ov.Node:
    return ops.gather(value, np.array([2, 1, 0]), np.array(1))


def _extents(value: ov.Node) -> ov.Node:
    """Height and width [2] of [1, 3, H, W]."""
    return ops.gather(ops.shape_of(value), np.array([2, 3]), np.array(0))


def _resized(value: ov.Node, step: Resize, height: int, width: int) -> ov.Node:
    """Resize, and round to whole numbers as OpenCV does; see `preprocess.transforms.resize`."""
    size: Any = np.array([height, width], np.int64)
    if step.keep_ratio:
        extents = ops.convert(_extents(value), np.float32)
        own_h, own_w = (ops.gather(extents, np.array(i), np.array(0)) for i in (0, 1))
        long, short = ops.maximum(own_h, own_w), ops.minimum(own_h, own_w)
        edges = _number(max(height, width)), _number(min(height, width))
        stands = ops.greater(own_h, own_w)
        alike = stands if height > width else ops.logical_not(stands)
        factor = ops.minimum(ops.select(alike, edges[0], edges[1]) / long, edges[1] / short)
        size = ops.convert(ops.floor(extents * factor + _number(0.5)), np.int64)
    resized = ops.interpolate(
        value, size, _MODES[step.interpolation], "sizes", axes=np.array([2, 3]),
        coordinate_transformation_mode="half_pixel", cube_coeff=-0.75,
    )  # fmt: skip
    return ops.clamp(ops.round(resized, "half_to_even"), 0.0, 255.0)


def _padded(value: ov.Node, step: Pad, height: int, width: int) -> ov.Node:
    """Pad on the right and below to the network's size."""
    missing = np.array([height, width], np.int64) - _extents(value)
    after = ops.concat([np.array([0, 0], np.int64), missing], 0)
    filling = _by_channel(step.value)
    padded = ops.pad(value - filling, np.array([0, 0, 0, 0]), after, "constant", _number(0))
    return padded + filling
