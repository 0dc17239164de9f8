"""Prepares images with mmdet's own code, for test pipelines that only mmdet can run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import numpy as np
from mmdet.datasets.pipelines import Compose

from farm import preprocess
from farm.detections import ImageMeta
from farm.errors import StepFailed
from farm.failures import in_one_line
from farm.preprocess import failure, require_image
from farm.preprocess.transforms import Image, centre_pad, require_centre_padded
from farm.sources.mmdet.data import steps as mapping
from farm.sources.mmdet.data.pipeline import PADS

if TYPE_CHECKING:
    from farm.specs import Shape, Sizes


class Preparer:
    """Computes the network's input from an image file; see `farm.preprocess.preparer`."""

    def __init__(self, pipeline: str, shape: Shape, sizes: Sizes | None = None) -> None:
        """Build the transforms.

        Raises:
            StepFailed: mmdet cannot build one of them; the message names it.
        """
        self._shape, self._sizes = shape, sizes
        steps = [_tuples(step) for step in json.loads(pipeline)]
        resize = next(step for step in steps if step["type"] == "Resize")
        self._keep_ratio = resize.get("keep_ratio", True)
        self._factor = resize.pop("scale_factor", None) if shape.dynamic_size else None
        resize.pop("scale_factor", None)
        if not shape.dynamic_size:
            steps = _padded_to(steps, (shape.opt.h, shape.opt.w))
        self._load, *self._transforms = map(_Transform, steps)

    def __call__(self, image_path: str, image_id: int, file_name: str) -> tuple[Image, ImageMeta]:
        """Prepare one image, as `farm.preprocess.Preparer`."""
        results = self._loaded(image_path)
        original_h, original_w = results["img"].shape[:2]
        if self._factor:
            results["scale_factor"] = self._factor
        else:
            results["scale"] = preprocess.scale(
                self._shape, self._keep_ratio, original_h, original_w
            )
        results["flip"], results["flip_direction"] = False, None
        for transform in self._transforms:
            results = transform(results, image_path)
        image = np.ascontiguousarray(results["img"].transpose(2, 0, 1))
        preprocess.check_size(image.shape, self._shape, self._sizes, file_name)
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
        results = {"img_info": {"filename": image_path}, "img_prefix": None}
        return self._load(results, image_path)


class _Transform:
    """One transform of a test pipeline; its errors name it and the image."""

    def __init__(self, step: Any) -> None:
        """step: its config, or a callable. Raises StepFailed: mmdet cannot build it."""
        self._name = step["type"] if isinstance(step, dict) else type(step).__name__
        self._place = f"the test pipeline's {self._name}"
        try:
            self._run = Compose([step])
        except Exception as error:  # a transform may raise anything on its options
            raise StepFailed(f"{self._place} cannot be made: {in_one_line(error)}") from error

    def __call__(self, results: dict[str, Any], image_path: str) -> dict[str, Any]:
        """Raises NoImage and StepFailed, as `farm.preprocess.Preparer`."""
        try:
            found = self._run(results)
        except Exception as error:  # a transform may raise anything on an image
            decodes = self._name == "LoadImageFromFile"  # OpenCV returns None or raises
            raise failure(error, self._place, decodes, image_path) from error
        require_image((found or {}).get("img"), self._place, image_path)
        return dict(found)


class CentrePadding:
    """Pads as `RandomCenterCropPad`, but to one size (h, w) for all images."""

    def __init__(self, step: dict[str, Any], size: tuple[int, int]) -> None:
        """Read the step's options.

        Raises:
            StepFailed: the step can never pad to that size.
        """
        how = mapping.centre_pad(step)
        require_centre_padded(how, size)
        self._how = replace(how, size=size)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        image = results["img"]
        padded, top, left = centre_pad(image, self._how)
        border = (top, top + image.shape[0], left, left + image.shape[1])
        shapes = {"img_shape": image.shape, "pad_shape": padded.shape}
        return {**results, **shapes, "img": padded, "border": border}


def _padded_to(steps: list[dict[str, Any]], size: tuple[int, int]) -> list[Any]:
    """`steps` with padding to `size` (h, w), instead of their own padding or at the end."""
    own = next((step for step in steps if step["type"] in PADS), None)
    if own is not None and own["type"] == "RandomCenterCropPad":
        pad: Any = CentrePadding(own, size)
    else:
        pad = {"type": "Pad", "size": size, "pad_val": (own or {}).get("pad_val", {"img": 0})}
    return [*steps, pad] if own is None else [pad if step is own else step for step in steps]


def _tuples(value: Any) -> Any:
    """Converts JSON's lists to the tuples that mmcv's `impad` and configs expect."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
