"""Images as mmdet's own test pipeline makes them, for one shape profile."""

from __future__ import annotations

import json
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import cv2
import numpy as np
import numpy.typing as npt
from mmdet.datasets.pipelines import Compose

from farm import specs
from farm.detections import ImageMeta
from farm.errors import StepFailed, in_one_line
from farm.sources.mmdet.centre_pad import CentrePad
from farm.sources.mmdet.pipeline import PADS

Image = npt.NDArray[Any]

_DTYPES = ("uint8", "uint16", "float32")
"""Of images as they are loaded and prepared."""


class NoImage(StepFailed):
    """The file is not there, or cannot be decoded: whatever would have been done to it."""


class Preparer:
    """Makes the network's input from an image file, with mmdet's own transforms.

    A fixed shape letterboxes: the image is resized to fit opt.h x opt.w and padded on the right
    and below to exactly that. With a dynamic size, opt gives the scale (long and short edge) as a
    config's `img_scale` does, unless the config has a `scale_factor` of each image's own size;
    the config's own padding stays. Padding all around is `RandomCenterCropPad`'s.
    """

    def __init__(
        self, pipeline_json: str, shape: specs.Shape, sizes: specs.Sizes | None = None
    ) -> None:
        """`pipeline_json` is `ModelFacts.pipeline`, `sizes` those that the network takes.

        Raises:
            StepFailed: mmdet cannot make one of its transforms; says which.
        """
        self._shape, self._sizes = shape, sizes
        steps = [_tuples(step) for step in json.loads(pipeline_json)]
        resize = next(step for step in steps if step["type"] == "Resize")
        self._keep_ratio = resize.get("keep_ratio", True)
        self._factor = resize.pop("scale_factor", None) if shape.dynamic_size else None
        resize.pop("scale_factor", None)
        if not shape.dynamic_size:
            steps = _padded_to(steps, (shape.opt.h, shape.opt.w))
        self._load, *self._transforms = map(_Transform, steps)

    def __call__(self, image_path: str, image_id: int, file_name: str) -> tuple[Image, ImageMeta]:
        """The image as [3, H, W], float32 (uint8 where nothing normalises it), and its meta.

        Raises:
            NoImage: the file is no image that OpenCV decodes.
            StepFailed: a transform fails on it or leaves other than three channels; or its size
                lies outside a dynamic shape's bounds, or is none that the network takes.
        """
        results = self._loaded(image_path)
        original_h, original_w = results["img"].shape[:2]
        if self._factor:
            results["scale_factor"] = self._factor
        else:
            results["scale"] = self._scale(original_h, original_w)
        results["flip"], results["flip_direction"] = False, None
        for transform in self._transforms:
            results = transform(results, image_path)
        image = np.ascontiguousarray(results["img"].transpose(2, 0, 1))
        self._check_size(image, file_name)
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

    def _check_size(self, image: Image, file_name: str) -> None:
        low, high = self._shape.min, self._shape.max
        _, height, width = image.shape
        if not (low.h <= height <= high.h and low.w <= width <= high.w):
            raise StepFailed(
                f"{file_name}: prepared it is {height}x{width} (HxW), outside the shape's bounds"
                f" {low.h}x{low.w} to {high.h}x{high.w}; widen min and max, or choose another opt"
            )
        if self._sizes and not self._sizes.fit(height, width):
            raise StepFailed(
                f"{file_name}: prepared it is {height}x{width} (HxW), and the network takes as"
                f" heights and widths {self._sizes}; let the test pipeline pad to multiples, or"
                " use a fixed shape"
            )


class _Transform:
    """One transform of a test pipeline; what goes wrong in it is told with both names."""

    def __init__(self, step: Any) -> None:
        """step: its config, or a callable. Raises StepFailed: mmdet cannot make it."""
        self._name = step["type"] if isinstance(step, dict) else type(step).__name__
        self._place = f"the test pipeline's {self._name}"
        try:
            self._run = Compose([step])
        except Exception as error:  # any transform's own view of its options
            raise StepFailed(f"{self._place} cannot be made: {in_one_line(error)}") from error

    def __call__(self, results: dict[str, Any], image_path: str) -> dict[str, Any]:
        """Raises NoImage and StepFailed, as `Preparer`."""
        try:
            found = self._run(results)
        except Exception as error:  # whatever a transform meets in this image
            raise self._told(error, image_path) from error
        self._require_image((found or {}).get("img"), image_path)
        return dict(found)

    def _told(self, error: Exception, image_path: str) -> BaseException:
        """What to raise for what was met: with the image's and the transform's name."""
        reason = f"{image_path}: {self._place} fails on it: {in_one_line(error)}"
        if isinstance(error, MemoryError) or getattr(error, "code", None) == cv2.Error.StsNoMem:
            return MemoryError(reason)
        if isinstance(error, FileNotFoundError):
            return NoImage(f"{image_path}: no such image")
        if isinstance(error, OSError):
            return NoImage(f"{image_path}: cannot be read: {error.strerror}")
        if "CV_IO_MAX_IMAGE" in str(error):
            return NoImage(f"{image_path}: larger than what OpenCV decodes (2^30 pixels)")
        decodes = self._name == "LoadImageFromFile"  # None is OpenCV's answer, or it raises
        if decodes and isinstance(error, AttributeError | cv2.error):
            return NoImage(f"{image_path}: not an image that OpenCV can decode")
        return StepFailed(reason)

    def _require_image(self, image: Any, image_path: str) -> None:
        shape = "x".join(map(str, getattr(image, "shape", ()))) or "nothing"
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
            raise StepFailed(
                f"{image_path}: {self._place} makes {shape} of it, expected HxWx3: a detector takes"
                " three channels, and LoadImageFromFile loads all images so with color_type='color'"
            )
        if image.dtype not in _DTYPES:
            raise StepFailed(
                f"{image_path}: {self._place} makes {image.dtype} of it, expected one of"
                f" {', '.join(_DTYPES)}"
            )


def _padded_to(steps: list[dict[str, Any]], size: tuple[int, int]) -> list[Any]:
    """`steps` padding to `size` (h, w): in the place of their own padding, else at the end."""
    own = next((step for step in steps if step["type"] in PADS), None)
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
