"""Padding all around, as the keypoint detectors are tested: `RandomCenterCropPad` in test mode."""

from __future__ import annotations

from typing import Any

from farm.errors import StepFailed
from farm.specs import Sizes


class CentrePad:
    """mmdet's step, to one size (h, w) instead of the next one that fits each image."""

    def __init__(self, step: dict[str, Any], size: tuple[int, int]) -> None:
        """Raises StepFailed where the step would never pad to that size: the network needs it."""
        from farm.sources.mmdet import compat  # noqa: F401

        # isort: split
        from mmdet.datasets.pipelines import RandomCenterCropPad

        fitting = tuple(next_size(step, extent) for extent in size)
        if fitting != size:
            raise StepFailed(
                f"the test pipeline pads to other sizes than {size[0]}x{size[1]} (HxW); the next"
                f" that fits is {fitting[0]}x{fitting[1]}"
            )
        options = {key: value for key, value in step.items() if key != "type"}
        self._pad: Any = RandomCenterCropPad(**options)
        self._size = size

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        image = results["img"]
        height, width = image.shape[:2]
        centre = [height // 2, width // 2]
        padded, border, _ = self._pad._crop_image_and_paste(image, centre, list(self._size))
        shapes = {"img_shape": image.shape, "pad_shape": padded.shape}
        return {**results, **shapes, "img": padded, "border": border}


def next_size(step: dict[str, Any], extent: int) -> int:
    """The least padded size that is not under `extent`."""
    mode, value = step.get("test_pad_mode", ("logical_or", 127))
    if mode == "size_divisor":
        return -(-extent // value) * value
    added = step.get("test_pad_add_pix", 0)
    return int((max(extent - added, 0) | value) + added)


def padded_sizes(step: dict[str, Any]) -> Sizes:
    """The sizes that the step leaves as they are, and pads all others to."""
    mode, value = step.get("test_pad_mode", ("logical_or", 127))
    multiple = value if mode == "size_divisor" else 1 << value.bit_length()
    far = multiple * (1 + step.get("test_pad_add_pix", 0))  # where nothing is cut off at zero
    own = (r for r in range(multiple) if next_size(step, far + r) == far + r)
    return Sizes(multiple, tuple(own))
