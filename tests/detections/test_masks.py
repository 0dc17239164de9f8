"""Masks are pasted once, into the original image, as PyTorch does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from farm.detections import Detections, ImageMeta
from farm.detections.convert import to_original
from farm.detections.matching import match
from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models.roi_heads.mask_heads import FCNMaskHead

pytestmark = pytest.mark.slow

# A network input of 160x128 made from an image of 490x380, as a letterbox to 160 makes it.
META = ImageMeta(1, "1.png", 490, 380, 160, 124, 160, 128, 124 / 380, 160 / 490)


def smooth(count: int) -> torch.Tensor:
    """Logits [count, 1, 28, 28] of blobs, whose edges lie between the cells."""
    random = torch.Generator().manual_seed(3)
    coarse = torch.randn(count, 1, 6, 6, generator=random)
    return torch.nn.functional.interpolate(coarse, size=(28, 28), mode="bicubic") * 4


def boxes(count: int) -> np.ndarray:
    random = np.random.default_rng(3)
    corner = random.uniform(0, 60, (count, 2))
    return np.concatenate([corner, corner + random.uniform(8, 60, (count, 2))], 1).astype("f4")


def pytorch(logits: torch.Tensor, rows: np.ndarray) -> list[np.ndarray]:
    """mmdet's own: bool [490, 380] per box, with `rescale=True`."""
    head = FCNMaskHead(num_convs=0, num_classes=1, class_agnostic=True)
    settings: Any = type("Settings", (), {"mask_thr_binary": 0.5})
    factors = torch.tensor([META.scale_x, META.scale_y] * 2)
    labels = torch.zeros(len(rows), dtype=torch.long)
    original = (META.original_h, META.original_w, 3)
    arguments = torch.from_numpy(rows), labels, settings, original, factors, True
    return [np.asarray(one) for one in head.get_seg_masks(logits, *arguments)[0]]


def twice(logits: torch.Tensor, rows: np.ndarray) -> list[np.ndarray]:
    """The published way: pasted into the network's input by the engine, then resized again."""
    head = FCNMaskHead(num_convs=0, num_classes=1, class_agnostic=True)
    settings: Any = type("Settings", (), {"mask_thr_binary": -1})  # probabilities, not bits
    labels = torch.zeros(len(rows), dtype=torch.long)
    size, factors = (META.height, META.width, 3), torch.ones(4)
    arguments = torch.from_numpy(rows), labels, settings, size, factors, True
    pasted = np.stack(head.get_seg_masks(logits, *arguments)[0]) / 255
    small = torch.from_numpy(pasted >= 0.5).float()[:, None, : META.valid_h, : META.valid_w]
    large = torch.nn.functional.interpolate(small, (META.original_h, META.original_w))
    return [one[0].numpy() >= 0.5 for one in large]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def test_pasted_masks_are_those_of_pytorch_and_masks_resized_twice_are_not() -> None:
    logits, rows = smooth(12), boxes(12)
    expected = pytorch(logits, rows)
    probabilities = logits.sigmoid()[:, 0].numpy()
    found = Detections(rows, np.ones(12, np.float32), np.zeros(12, np.int64), probabilities)
    ours = to_original(found, META, clip=False, mask_threshold=0.5).rles
    assert ours is not None
    same = [overlap(a, coco_mask.decode(b) > 0) for a, b in zip(expected, ours, strict=True)]
    other = [overlap(a, b) for a, b in zip(expected, twice(logits, rows), strict=True)]
    print(f"pasted once: least IoU {min(same):.4f}; resized twice: mean IoU {np.mean(other):.4f}")
    assert min(same) > 0.999
    assert np.mean(other) < 0.97


def test_images_of_more_than_255_masks_are_matched() -> None:
    """LVIS takes 300 of an image; pycocotools has no areas of so many at once."""
    count = 300
    image = np.zeros((16, 32, count), np.uint8, order="F")
    for place in range(1, count):  # the first stays empty
        image[place // 32, place % 32, place] = 1
    rles = tuple(coco_mask.encode(image))
    rows = np.tile(np.float32([0, 0, 32, 16]), (count, 1))
    labels = np.arange(count)
    one = Detections(rows, np.ones(count, np.float32), labels, None, rles)
    assert match([one], [one]).mask_iou.tolist() == [1] * count
