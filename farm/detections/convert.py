"""From an engine's raw outputs to detections, and from network pixels to the original image's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from farm.detections import Detections, ImageMeta
from farm.detections.masks import in_image, paste
from farm.errors import LabelOutOfRange


def from_outputs(outputs: Mapping[str, npt.NDArray[Any]]) -> list[Detections]:
    """One `Detections` an image, in network pixels; empty rows (score 0) dropped."""
    found = []
    masks, mask_scores = outputs.get("masks"), outputs.get("mask_scores")
    for i, dets in enumerate(outputs["dets"]):
        kept = dets[:, 4] > 0
        found.append(
            Detections(
                boxes=dets[kept, :4],
                scores=dets[kept, 4],
                labels=outputs["labels"][i][kept].astype(np.int64),
                masks=masks[i][kept] if masks is not None else None,
                mask_scores=mask_scores[i][kept] if mask_scores is not None else None,
            )
        )
    return found


def require_known_labels(found: Detections, classes: int, image: str) -> None:
    """Check that each label is one of so many classes.

    Raises:
        LabelOutOfRange: a box of this image has another label.
    """
    for label in found.labels.tolist():
        if not 0 <= label < classes:
            raise LabelOutOfRange(label, classes, image)


def in_network_frame(
    found: Detections, size: tuple[int, ...], mask_threshold: float, mask_frame: str
) -> Detections:
    """Paste the masks into the network's input of `size` (h, w)."""
    return to_original(found, network_meta("", *size), False, mask_threshold, mask_frame)


def network_meta(name: str, height: int, width: int) -> ImageMeta:
    """Return the meta of an image that is the network's input itself."""
    return ImageMeta(0, name, height, width, height, width, height, width, 1.0, 1.0)


def to_original(
    found: Detections, meta: ImageMeta, clip: bool, mask_threshold: float, mask_frame: str = "box"
) -> Detections:
    """Boxes and pasted masks in the original image, as mmdet's own `rescale=True` gives them.

    clip: whether the model clips its boxes to the image. An exported graph knows only the
    padded network input, so boxes that reach into the padding are cut here.
    mask_frame: "box" for masks inside each box, else one of `masks.KINDS`; see `ModelFacts`.
    """
    boxes = found.boxes - np.array([meta.left, meta.top] * 2, np.float32)
    if clip:
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, meta.valid_w)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, meta.valid_h)
    boxes /= np.array([meta.scale_x, meta.scale_y] * 2, np.float32)
    if found.masks is not None and mask_frame != "box":
        return in_image(found, boxes, meta, mask_threshold, mask_frame)
    rles = None
    if found.masks is not None:
        rles = paste(found.masks, boxes, meta.original_h, meta.original_w, mask_threshold)
    return Detections(boxes, found.scores, found.labels, None, rles, found.mask_scores)
