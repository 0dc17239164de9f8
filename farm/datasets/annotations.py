"""Annotation files in COCO's format: read, checked, and completed for COCO's tools.

Entries that would make these crash, hang or count wrongly are errors. A missing field that has a
harmless default is filled in, which a note reports.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.datasets import segmentations
from farm.datasets.coco_format import LARGEST_AREA, entry_faults, is_area, reference_faults
from farm.datasets.mean_ap import rule_of
from farm.errors import InputError

Document = dict[str, Any]
Entry = dict[str, Any]


@dataclass(frozen=True)
class Annotations:
    """A checked annotation file.

    document: `images`, `annotations` and `categories`, completed for pycocotools; `mean_ap`, the
    rule of the data set's own mAP, where it has one.
    notes: what was filled in or is odd, a sentence each.
    """

    document: Document
    notes: tuple[str, ...]


def load_annotations(path: Path, limit: int | None = None) -> Document:
    """Return the document of `read_annotations`.

    Raises:
        InputError: as `read_annotations`.
    """
    return read_annotations(path, limit).document


def read_annotations(
    path: Path, limit: int | None = None, mask_classes: Sequence[str] = ()
) -> Annotations:
    """Read an annotation file, cut to its first `limit` images.

    mask_classes: names of the categories whose masks will be evaluated; the segmentations of all
    others, and sizes of images where there are none, are neither checked nor used.

    Raises:
        InputError: the file is not in COCO's format; names the first faulty entry.
    """
    full = _parsed(path)
    _raise_first(entry_faults(full), path)
    _raise_first(reference_faults(full), path)
    images = [_with_integer_size(image) for image in full["images"][:limit]]
    kept = {image["id"] for image in images}
    own = [(i, one) for i, one in enumerate(full["annotations"]) if one["image_id"] in kept]
    if mask_classes:
        names = {one["id"] for one in full["categories"] if one["name"] in mask_classes}
        masked = [(i, one) for i, one in own if one["category_id"] in names]
        _raise_first(segmentations.faults(images, masked), path)
    objects = [one for _, one in own]
    document = {
        "images": images,
        "annotations": [_completed(one, number) for number, one in enumerate(objects, start=1)],
        "categories": full["categories"],
    }
    if rule := rule_of(full):
        document["mean_ap"] = rule.as_json()
    return Annotations(document, tuple(_notes(images, objects)))


def _parsed(path: Path) -> Document:
    """Read JSON in any encoding of Unicode, with COCO's three lists. Raises InputError."""
    try:
        full = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"not a readable JSON file: {error}", str(path)) from None
    wanted = ("images", "annotations", "categories")
    if not isinstance(full, dict) or any(not isinstance(full.get(k), list) for k in wanted):
        raise InputError(f"not in COCO's format: it needs the lists {', '.join(wanted)}", str(path))
    if not full["images"]:
        raise InputError("it has no images", str(path))
    return full


def _raise_first(faults: Iterator[str], path: Path) -> None:
    if (first := next(faults, None)) is None:
        return
    more = sum(1 for _ in faults)
    rest = f" ({more} more {'fault' if more == 1 else 'faults'} of this kind)" if more else ""
    raise InputError(f"not in COCO's format: {first}{rest}", str(path))


# For COCO's tools ---------------------------------------------------------------------------


def _with_integer_size(image: Entry) -> Entry:
    """Write 64.0 as 64, which pycocotools needs."""
    sides = {
        name: int(value)
        for name in ("height", "width")
        if isinstance(value := image.get(name), float) and value.is_integer()
    }
    return {**image, **sides} if sides else image


def _completed(one: Entry, number: int) -> Entry:
    """Fill in defaults and number anew: COCOeval takes an object of the id 0 for unmatched."""
    kept = {name: one[name] for name in ("image_id", "category_id", "bbox")}
    if "segmentation" in one:
        kept["segmentation"] = one["segmentation"]
    area = one["area"] if "area" in one else _area(one)
    return {"id": number, **kept, "area": area, "iscrowd": int(one.get("iscrowd", 0))}


def _area(one: Entry) -> float:
    """Compute the area as COCO does: of the outline, or of the box where there is none."""
    area = segmentations.area(one.get("segmentation"))
    if area is None or not is_area(area):
        area = float(one["bbox"][2] * one["bbox"][3])
    return min(area, LARGEST_AREA)


def _notes(images: Sequence[Entry], objects: Sequence[Entry]) -> Iterator[str]:
    if not objects:
        yield "no image has an annotation, so there is no AP"
    if any(one["id"] == 0 for one in objects):
        yield (
            "an annotation has the id 0, which COCO's tools never count as found; all ids are"
            " renumbered from 1 here"
        )
    if lacking := sum("iscrowd" not in one for one in objects):
        yield f"{lacking} of {len(objects)} annotations have no 'iscrowd': taken as 0"
    if lacking := sum("area" not in one for one in objects):
        yield (
            f"{lacking} of {len(objects)} annotations have no 'area': computed from the"
            " segmentation, or from the box where there is none"
        )
    if empty := sum(not (one["bbox"][2] and one["bbox"][3]) for one in objects):
        yield f"{empty} of {len(objects)} boxes have no width or height: they are never found"
    if repeated := len(images) - len({image["file_name"] for image in images}):
        yield (
            f"{repeated} of {len(images)} images have the file_name of another one: each is"
            " evaluated with its own annotations only"
        )
