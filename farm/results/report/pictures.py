"""A prepared image twice, with what PyTorch and what the engine finds, as one small JPEG."""

from __future__ import annotations

import base64
from math import ceil
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from farm.datasets.prepared import Prepared
from farm.specs.pipeline import Normalize, is_mmdets, parsed

if TYPE_CHECKING:
    from farm.detections import Floats
    from farm.results.report.disagreements import Side
    from farm.specs import Ref
    from farm.store import Store

Pixels = npt.NDArray[np.uint8]

_EDGE = 420
"""Pixels of the longer edge of each half."""

_LEAST_EDGE = 320
"""Smaller images are enlarged to it by a whole factor, so that boxes and scores are legible."""

_GAP = 8
_QUALITY = 82

_MASK = 0.45
"""How much of a mask's pixels is the colour of its box; the rest is the image."""

_SAME, _APART, _ALONE = (94, 158, 47), (44, 132, 232), (60, 60, 225)
"""Blue, green, red of a box that both have, that is not where the other one's is, and that only one
side has."""


class Pictures:
    """Draws disagreements on the prepared images of a store, which lie in a folder here."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._prepared: dict[Ref, Prepared] = {}

    def __call__(self, ref: Ref, index: int, pytorch: Side, engine: Side) -> tuple[str, str]:
        """Draw an image as `disagreements.Draw` says. Raises OSError where it is not here."""
        if ref not in self._prepared:
            self._prepared[ref] = Prepared(self._store.path(ref))
        prepared, record = self._prepared[ref], self._store.any_record(ref)
        if record is None:
            raise FileNotFoundError(f"{ref.stage} {ref.key} is not whole")
        image = _as_picture(prepared.image(index), record.inputs["pipeline"])
        scale = _scale(image)
        left, right = (_drawn(image, side, scale) for side in (pytorch, engine))
        between = np.full_like(left[:, :_GAP], 255)
        joined = np.hstack([left, between, right])
        return prepared.metas[index].file_name, _address(joined)


def _as_picture(image: Floats, pipeline: str) -> Pixels:
    """An input of the network, float32 [3, H, W], as a picture [H, W, 3] in OpenCV's order.

    pipeline: how it was prepared, which is undone. Where that is MMDetection's own code, the values
    are stretched to 0 to 255 instead, and blue and red may be swapped.
    """
    pixels = image.transpose(1, 2, 0)
    if is_mmdets(pipeline):
        low, high = float(pixels.min()), float(pixels.max())
        return _rounded((pixels - low) * (255 / max(high - low, 1e-6)))
    own = parsed(pipeline)
    swapped = own.decode.channel_order == "rgb"
    for step in own.steps:
        if isinstance(step, Normalize):
            pixels = pixels * np.array(step.std, np.float32) + np.array(step.mean, np.float32)
            swapped ^= step.to_rgb
    return _rounded(pixels[:, :, ::-1] if swapped else pixels)


def _rounded(pixels: Floats) -> Pixels:
    return np.ascontiguousarray(pixels.clip(0, 255).round().astype(np.uint8))


def _scale(image: Pixels) -> float:
    longer = max(image.shape)
    enlarged = ceil(_LEAST_EDGE / longer)
    return float(enlarged) if enlarged > 1 else min(1.0, float(_EDGE / longer))


def _bounded(box: Floats, image: Pixels) -> list[float]:
    """A box that can be drawn: an engine whose arithmetic overflows gives NaN and infinity."""
    far = 4.0 * max(image.shape)
    found: list[float] = (
        np.nan_to_num(box, nan=-1, posinf=far, neginf=-far).clip(-far, far).tolist()
    )
    return found


def _drawn(image: Pixels, side: Side, scale: float) -> Pixels:
    size = tuple(round(edge * scale) for edge in image.shape[1::-1])
    # By a whole factor, it enlarges pixels as they are.
    picture: Any = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    order = sorted(side.counted, key=lambda one: _rank(one, side))
    for index in order:  # all masks lie below all boxes, which stay legible
        _draw_mask(picture, side, index, image.shape[:2])
    for index in order:
        x1, y1, x2, y2 = (
            round(value * scale) for value in _bounded(side.found.boxes[index], image)
        )
        colour, width = _look(index, side)
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, width)
        text = f"{side.found.scores[index]:.2f}"
        where = (max(x1, 0) + 2, max(y1, 0) + 12)
        cv2.putText(picture, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255,) * 3, 3, cv2.LINE_AA)
        cv2.putText(picture, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
    drawn: Pixels = picture
    return drawn


def _draw_mask(picture: Pixels, side: Side, index: int, size: tuple[int, ...]) -> None:
    """Colour the pixels of a mask, and its outline, in a picture that is `size` [H, W] scaled.

    Nothing is drawn of a detector without masks, of results from before masks were kept, and of a
    mask of another image's size.
    """
    if side.found.rles is None or tuple(side.found.rles[index]["size"]) != size:
        return
    own: Pixels = coco_mask.decode(dict(side.found.rles[index]))
    mask: Any = cv2.resize(own, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    inside, (colour, width) = mask > 0, _look(index, side)
    tint = np.array(colour, np.float32) * _MASK
    picture[inside] = _rounded(picture[inside] * np.float32(1 - _MASK) + tint)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, colour, width)


def _look(index: int, side: Side) -> tuple[tuple[int, int, int], int]:
    if index in side.alone:
        return _ALONE, 2
    return (_APART, 2) if index in side.apart else (_SAME, 1)


def _rank(index: int, side: Side) -> tuple[bool, bool]:
    """Boxes that differ are drawn over those that do not."""
    return index in side.alone, index in side.apart


def _address(picture: Pixels) -> str:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
