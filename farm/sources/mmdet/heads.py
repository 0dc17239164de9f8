"""The head that predicts the final boxes of a detector, and how many classes it has."""

from __future__ import annotations

from typing import Any

from torch import nn


def last_head(detector: Any) -> Any:
    """Return the head that predicts the final boxes, or None; a cascade has one head per stage."""
    head = getattr(getattr(detector, "roi_head", detector), "bbox_head", None)
    return head[-1] if isinstance(head, nn.ModuleList) else head


def class_count(detector: Any) -> int | None:
    """Return the number of classes; None where the detector does not state it."""
    head = last_head(detector) or getattr(detector, "mask_head", None)
    count = getattr(head, "num_classes", None)
    # Panoptic models name the classes of their semantic head, too, after those of the objects.
    return count and count + getattr(detector, "num_stuff_classes", 0)
