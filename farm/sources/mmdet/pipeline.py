"""Images as mmdet's own test pipeline makes them, for one shape profile."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from farm import inputs
from farm.detections import ImageMeta
from farm.errors import StepFailed
from farm.sources.mmdet.centre_pad import CentrePad

_IMAGE_STEPS = ("LoadImageFromFile", "Resize", "Normalize", "Pad", "RandomCenterCropPad")
_NO_EFFECT = ("RandomFlip", "ImageToTensor", "DefaultFormatBundle", "Collect")
_RESIZE_OPTIONS = {"type", "keep_ratio", "backend", "interpolation", "bbox_clip_border"}
_PAD_OPTIONS = {"type", "size", "size_divisor", "pad_to_square", "pad_val"}
_PADS = ("Pad", "RandomCenterCropPad")


def canonical(pipeline: list[dict[str, Any]]) -> str:
    """The steps of a test pipeline that change pixels, as JSON: equal text, equal images.

    The scale of the config is left out, since the shape profile stands in its place (but not one
    relative to each image's own size); so are flips that are switched off and the packing into
    tensors.

    Raises:
        StepFailed: more than one scale, a flip, or a step other than load, resize, normalise, pad.
    """
    steps = [dict(step) for i, outer in enumerate(pipeline) for step in _inner(outer, i)]
    for step in steps:
        _check(step)
    kept = [_without_scale(step) for step in steps if step["type"] in _IMAGE_STEPS]
    names = [step["type"] for step in kept]
    if names[:1] != ["LoadImageFromFile"] or any(names.count(name) != 1 for name in names):
        found = ", ".join(names)
        raise StepFailed(f"the test pipeline must load first, each step once; it has {found}")
    if "Resize" not in names:
        raise StepFailed("the test pipeline has no Resize, so no image would fit a shape")
    return json.dumps(kept, sort_keys=True, separators=(",", ":"))


def _inner(step: dict[str, Any], place: int) -> list[dict[str, Any]]:
    """The steps inside a `MultiScaleFlipAug` that does nothing but one scale; else `step`."""
    if step.get("type") != "MultiScaleFlipAug":
        return [step]
    scale, factor = _single(step.get("img_scale")), _single(step.get("scale_factor"))
    if step.get("flip") or not (isinstance(scale, tuple) or isinstance(factor, int | float)):
        wrong = "flip=False" if step.get("flip") else "img_scale='[(W,H)]'"
        raise StepFailed(
            "the test pipeline must have one scale and no flip, since an engine sees an image"
            f" once; set it with --cfg-options data.test.pipeline.{place}.{wrong}, or in a"
            " matrix's cfg_options"
        )
    own = {"Resize": {"scale_factor": factor} if factor else {}, "RandomFlip": {"flip_ratio": None}}
    return [{**inner, **own.get(inner.get("type", ""), {})} for inner in step["transforms"]]


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _check(step: dict[str, Any]) -> None:
    kind = step.get("type")
    if kind == "LoadProposals":
        raise StepFailed("it detects nothing by itself: its proposals come from files of another's")
    if kind not in _IMAGE_STEPS + _NO_EFFECT:
        known = ", ".join(_IMAGE_STEPS + _NO_EFFECT)
        raise StepFailed(f"test pipeline step {kind!r} is not supported; only {known} are")
    if kind == "RandomFlip" and (step.get("flip_ratio") or step.get("prob")):
        raise StepFailed("the test pipeline flips at random; remove `flip_ratio`")
    if kind == "RandomCenterCropPad" and not step.get("test_mode"):
        raise StepFailed("the test pipeline crops at random; set `test_mode` of that step")
    scales = {"img_scale", "scale_factor"}
    allowed = {"Resize": _RESIZE_OPTIONS | scales, "Pad": _PAD_OPTIONS}.get(kind, set(step))
    if unknown := sorted(set(step) - allowed):
        raise StepFailed(f"test pipeline step {kind}: {', '.join(unknown)} not supported")


def _without_scale(step: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in step.items() if key != "img_scale"}


class Preparer:
    """Makes the network's input from an image file, with mmdet's own transforms.

    A fixed shape letterboxes: the image is resized to fit opt.h x opt.w and padded on the right
    and below to exactly that. With a dynamic size, opt gives the scale (long and short edge) as a
    config's `img_scale` does, unless the config has a `scale_factor` of each image's own size;
    the config's own padding stays. Padding all around is `RandomCenterCropPad`'s.
    """

    def __init__(self, pipeline_json: str, shape: inputs.Shape) -> None:
        """`pipeline_json` is `ModelFacts.pipeline`."""
        from farm.sources.mmdet import compat  # noqa: F401

        # isort: split
        from mmdet.datasets.pipelines import Compose

        self._shape = shape
        steps = [_tuples(step) for step in json.loads(pipeline_json)]
        resize = next(step for step in steps if step["type"] == "Resize")
        self._keep_ratio = resize.get("keep_ratio", True)
        self._factor = resize.pop("scale_factor", None) if shape.dynamic_size else None
        resize.pop("scale_factor", None)
        if not shape.dynamic_size:
            steps = _padded_to(steps, (shape.opt.h, shape.opt.w))
        self._load = Compose(steps[:1])
        self._transform = Compose(steps[1:])

    def __call__(
        self, image_path: str, image_id: int, file_name: str
    ) -> tuple[npt.NDArray[Any], ImageMeta]:
        """The image as [3, H, W], float32 (uint8 where nothing normalises it), and its meta.

        Raises:
            StepFailed: the file is no image, or its size lies outside a dynamic shape's bounds.
        """
        results = self._loaded(image_path)
        original_h, original_w = results["img"].shape[:2]
        if self._factor:
            results["scale_factor"] = self._factor
        else:
            results["scale"] = self._scale(original_h, original_w)
        results["flip"], results["flip_direction"] = False, None
        results = self._transform(results)
        image = np.ascontiguousarray(results["img"].transpose(2, 0, 1))
        self._check_bounds(image, file_name)
        scale_x, scale_y = (float(factor) for factor in results["scale_factor"][:2])
        valid_h, valid_w = results["img_shape"][:2]
        height, width = image.shape[1:]
        top, _, left, _ = map(int, results.get("border", (0,) * 4))
        meta = ImageMeta(
            image_id, file_name, original_h, original_w,
            int(valid_h), int(valid_w), height, width, scale_x, scale_y, left, top,
        )  # fmt: skip
        return image, meta

    def _loaded(self, image_path: str) -> dict[str, Any]:
        try:
            results = self._load({"img_info": {"filename": image_path}, "img_prefix": None})
        except FileNotFoundError as error:
            raise StepFailed(f"{image_path}: no such image") from error
        except (AttributeError, cv2.error) as error:  # None is OpenCV's answer, or it raises
            raise StepFailed(f"{image_path}: not an image that OpenCV can decode") from error
        return dict(results)

    def _scale(self, height: int, width: int) -> tuple[int, int]:
        """What mmdet's Resize takes: (w, h), or the long and the short edge with keep_ratio."""
        opt = self._shape.opt
        if not self._keep_ratio:
            return (opt.w, opt.h)
        if self._shape.dynamic_size:
            return (max(opt.h, opt.w), min(opt.h, opt.w))
        if (height > width) == (opt.h > opt.w):
            return (opt.w, opt.h)
        # An image that stands in a shape that lies (or the reverse) fits by the short edge.
        return (min(opt.h, opt.w),) * 2

    def _check_bounds(self, image: npt.NDArray[Any], file_name: str) -> None:
        low, high = self._shape.min, self._shape.max
        _, height, width = image.shape
        if not (low.h <= height <= high.h and low.w <= width <= high.w):
            raise StepFailed(
                f"{file_name}: prepared it is {height}x{width} (HxW), outside the shape's bounds"
                f" {low.h}x{low.w} to {high.h}x{high.w}; widen min and max, or choose another opt"
            )


def _padded_to(steps: list[dict[str, Any]], size: tuple[int, int]) -> list[Any]:
    """`steps` padding to `size` (h, w): in the place of their own padding, else at the end."""
    own = next((step for step in steps if step["type"] in _PADS), None)
    if own is not None and own["type"] == "RandomCenterCropPad":
        pad: Any = CentrePad(own, size)
    else:
        pad = {"type": "Pad", "size": size, "pad_val": (own or {}).get("pad_val", {"img": 0})}
    return [*steps, pad] if own is None else [pad if step is own else step for step in steps]


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that mmcv's `impad` and configs expect."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
