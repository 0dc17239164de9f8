"""Check segmentations of annotations, which pycocotools would misread or never finish.

Its C code checks nothing: it loops for ever over an RLE that is longer than its image, and reads a
polygon of two points as a box.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from farm.errors import shown

LARGEST_IMAGE = 2**30
"""Pixels, as OpenCV's own limit; run lengths of such an image fit pycocotools' 32 bits."""
LONGEST_OUTLINE = 4_000_000
"""Pixels along one polygon; pycocotools needs 40 bytes for each."""

Sized = tuple[int, int]


def in_range(values: Iterable[Any], low: float, high: float) -> bool:
    """Whether all are numbers (no bool) from low to high; NaN is not."""
    return all(type(v) in (int, float) and low <= v <= high for v in values)


def faults(
    images: Sequence[dict[str, Any]], annotations: Iterable[tuple[int, dict[str, Any]]]
) -> Iterator[str]:
    """Yield why masks of these annotations (with their index in the file) cannot be evaluated."""
    sizes = {image["id"]: _size(image) for image in images}
    for i, image in enumerate(images):
        if sizes[image["id"]] is None:
            yield (
                f"images[{i}] (id {image['id']}) has the height {shown(image.get('height'))} and"
                f" the width {shown(image.get('width'))}; masks need both, in whole pixels"
            )
    for i, one in annotations:
        size = sizes[one["image_id"]]
        if size and (wrong := fault(one.get("segmentation"), size)):
            yield f"annotations[{i}] (id {one['id']}): its segmentation {wrong}"


def _size(image: dict[str, Any]) -> Sized | None:
    height, width = image.get("height"), image.get("width")
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        return None
    return (height, width) if height * width <= LARGEST_IMAGE else None


def fault(segmentation: Any, size: Sized) -> str | None:
    """Return what is wrong with it as a mask in an image of `size`, (height, width)."""
    if segmentation is None or segmentation == []:
        return "is missing or empty; the model has masks, so each object needs one"
    if isinstance(segmentation, list):
        return next(filter(None, (_polygon_fault(one, size) for one in segmentation)), None)
    if isinstance(segmentation, dict):
        return _rle_fault(segmentation, size)
    return f"is {shown(segmentation)}; expected polygons [[x, y, ...], ...] or an RLE"


def area(segmentation: Any) -> float | None:
    """Return the square pixels inside; None where it is no valid segmentation of any image.

    Of polygons the sum of their areas, as COCO's own annotations have it.
    """
    if isinstance(segmentation, list) and segmentation:
        if all(_is_polygon(one) and in_range(one, -1e7, 1e7) for one in segmentation):
            return sum(map(_polygon_area, segmentation))
    elif isinstance(segmentation, dict):
        size = _size(dict(zip(("height", "width"), _pair(segmentation), strict=False)))
        if size and not _rle_fault(segmentation, size):
            return float(sum(_runs(segmentation["counts"])[1::2]))
    return None


# Polygons -------------------------------------------------------------------------------------


def _is_polygon(polygon: Any) -> bool:
    return isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0


def _polygon_fault(polygon: Any, size: Sized) -> str | None:
    side = max(size)
    if not _is_polygon(polygon):
        return f"has {shown(polygon)}; expected a polygon [x, y, ...] of at least three points"
    if not in_range(polygon, -side, 2 * side):
        return (
            f"has the polygon {shown(polygon)}; expected finite numbers, not further outside of"
            f" its {size[1]}x{size[0]} image than that is large"
        )
    if len(polygon) * 3 * side > LONGEST_OUTLINE and _outline(polygon) > LONGEST_OUTLINE:
        return f"has a polygon whose outline is longer than {LONGEST_OUTLINE} pixels"
    return None


def _corners(polygon: Sequence[float]) -> Iterator[tuple[float, float, float, float]]:
    """Each side as x, y of its two ends."""
    xs, ys = polygon[::2], polygon[1::2]
    return zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]], strict=True)


def _outline(polygon: Sequence[float]) -> float:
    return sum(max(abs(x - u), abs(y - v)) + 1 for x, y, u, v in _corners(polygon))


def _polygon_area(polygon: Sequence[float]) -> float:
    return abs(sum(x * v - u * y for x, y, u, v in _corners(polygon))) / 2


# Run lengths ----------------------------------------------------------------------------------


def _pair(rle: dict[str, Any]) -> list[Any]:
    size = rle.get("size")
    return size if isinstance(size, list) and len(size) == 2 else []


def _rle_fault(rle: dict[str, Any], size: Sized) -> str | None:
    if [(type(v), v) for v in _pair(rle)] != [(int, v) for v in size]:
        found = shown(rle.get("size"))
        return f"has the size {found}; expected [height, width] of its image, {list(size)}"
    try:
        total = sum(_runs(rle.get("counts")))
    except ValueError as error:
        return f"has the counts {shown(rle.get('counts'))}: {error}"
    if total != size[0] * size[1]:
        return f"has counts for {total} pixels; its image has {size[0]}x{size[1]}"
    return None


def _runs(counts: Any) -> list[int]:
    """Lengths of the runs, outside and inside by turns. Raises ValueError."""
    if isinstance(counts, list):
        if all(type(v) is int and v >= 0 for v in counts):
            return counts
        raise ValueError("expected whole numbers from 0 on")
    if isinstance(counts, str):
        return _decoded(counts)
    raise ValueError("expected a list of run lengths, or these as COCO's text")


def _decoded(text: str) -> list[int]:
    """COCO's text: five bits a character, and from the fourth run on the difference to the last
    but one. As `rleFrString` of pycocotools, which checks nothing. Raises ValueError."""
    codes = np.frombuffer(text.encode(errors="surrogatepass"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes < 32)  # the sixth bit: the number continues
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or lengths.max(initial=0) > 7:
        raise ValueError("no run lengths in COCO's text form")
    if codes[-1] >= 32:
        raise ValueError("the text ends within a number")
    digits = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << 5 * digits, starts)
    runs -= (codes[ends] & 16 > 0) * (1 << 5 * lengths)
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    if runs.min() < 0:
        raise ValueError("a run of it is negative")
    found: list[int] = runs.tolist()
    return found
