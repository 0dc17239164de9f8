"""Translates mmdet's transforms to steps of a `Pipeline`, where that computes the same pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from farm.errors import StepFailed
from farm.specs.pipeline import (
    COLOR_TYPES,
    INTERPOLATIONS,
    CentrePad,
    Decode,
    Normalize,
    Pad,
    Pipeline,
    Resize,
    Step,
    Triple,
)

Transform = Mapping[str, Any]


class _Other(Exception):
    """The transform has options that only mmdet's own code supports or rejects."""


def pipeline_of(transforms: Sequence[Transform]) -> Pipeline | None:
    """Return the pipeline of these transforms, read from JSON; None where mmdet must run them.

    transforms: the first one loads the image; see `farm.sources.mmdet.data.pipeline.canonical`.
    """
    load, *others = transforms
    try:
        decode, steps = _decode(load), tuple(_READERS[one["type"]](one) for one in others)
        _require_floats(decode, steps)
    except _Other:
        return None
    return Pipeline(decode, steps)


def centre_pad(step: Transform) -> CentrePad:
    """Return the step for `RandomCenterCropPad` in test mode.

    Raises:
        StepFailed: it has no `mean` of three channels, which is the padding's value.
    """
    mode, number = step.get("test_pad_mode", ("logical_or", 127))
    try:
        first, second, third = map(float, step["mean"])
    except (KeyError, TypeError, ValueError) as error:
        raise StepFailed(
            "test pipeline step RandomCenterCropPad: expected `mean` of three numbers"
        ) from error
    value = (third, second, first) if step.get("to_rgb") else (first, second, third)
    return CentrePad(mode, number, step.get("test_pad_add_pix", 0), value)


def _decode(step: Transform) -> Decode:
    options = _options(
        step, color_type="color", channel_order="bgr", to_float32=False, file_client_args=None
    )
    _require(options["color_type"] in COLOR_TYPES and options["channel_order"] in ("bgr", "rgb"))
    _require(options.pop("file_client_args") in (None, {"backend": "disk"}))
    _require(type(options["to_float32"]) is bool)
    return Decode(**options)


def _resize(step: Transform) -> Resize:
    options = _options(
        step,
        keep_ratio=True,
        interpolation="bilinear",
        backend="cv2",
        scale_factor=None,
        bbox_clip_border=True,
    )
    factor = options["scale_factor"]
    _require(options["backend"] == "cv2" and options["interpolation"] in INTERPOLATIONS)
    _require(type(options["keep_ratio"]) is bool)
    _require(factor is None or (type(factor) is float and factor > 0))  # mmdet accepts no other
    return Resize(options["keep_ratio"], options["interpolation"], factor)


def _normalize(step: Transform) -> Normalize:
    options = _options(step, mean=None, std=None, to_rgb=True)
    _require(type(options["to_rgb"]) is bool)
    return Normalize(_triple(options["mean"]), _triple(options["std"]), options["to_rgb"])


def _pad(step: Transform) -> Pad:
    """A single number pads the first channel only, as OpenCV reads it."""
    options = _options(step, size=None, size_divisor=None, pad_to_square=False, pad_val={})
    size, divisor, square = options["size"], options["size_divisor"], options["pad_to_square"]
    _require(type(square) is bool and (size is not None) + (divisor is not None) + square == 1)
    _require(divisor is None or _positive(divisor))
    _require(size is None or (type(size) is list and len(size) == 2 and all(map(_positive, size))))
    _require(isinstance(options["pad_val"], dict))
    value = options["pad_val"].get("img", 0)
    values = _triple(value if isinstance(value, list) else [value, 0, 0])
    return Pad((size[0], size[1]) if size else None, divisor, square, values)


def _centre_pad(step: Transform) -> CentrePad:
    known = {"crop_size", "ratios", "border", "mean", "std", "to_rgb", "test_mode"}
    known |= {"type", "test_pad_mode", "test_pad_add_pix", "bbox_clip_border"}
    _require(set(step) <= known and {"ratios", "border"} <= set(step))  # defaults train
    _require(all(step.get(name) is None for name in ("ratios", "border", "crop_size")))
    _require(step.get("std") is not None and type(step.get("to_rgb")) is bool)
    _triple(step.get("mean"))
    mode = step.get("test_pad_mode", ["logical_or", 127])
    _require(type(mode) is list and len(mode) == 2 and mode[0] in ("logical_or", "size_divisor"))
    extra = step.get("test_pad_add_pix", 0)
    _require(_positive(mode[1]) and type(extra) is int and extra >= 0)
    return centre_pad(step)


_READERS: dict[str, Callable[[Transform], Step]] = {
    "Resize": _resize,
    "Normalize": _normalize,
    "Pad": _pad,
    "RandomCenterCropPad": _centre_pad,
}


def _require_floats(decode: Decode, steps: Sequence[Step]) -> None:
    """Requires float32 before padding on all sides, as mmdet does."""
    is_float = decode.to_float32
    for step in steps:
        _require(is_float or not isinstance(step, CentrePad))
        is_float = is_float or isinstance(step, Normalize)


def _options(step: Transform, **defaults: Any) -> dict[str, Any]:
    own = {name: value for name, value in step.items() if name != "type"}
    _require(own.keys() <= defaults.keys())
    return {**defaults, **own}


def _triple(values: Any) -> Triple:
    _require(type(values) is list and len(values) == 3)
    _require(all(type(one) in (int, float) for one in values))
    first, second, third = map(float, values)
    return first, second, third


def _positive(value: Any) -> bool:
    return type(value) is int and value > 0


def _require(holds: bool) -> None:
    if not holds:
        raise _Other
