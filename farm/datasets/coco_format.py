"""COCO's format: what each entry of an annotation file must be, so that its tools count rightly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from farm.datasets.segmentations import in_range
from farm.errors import shown

LARGEST_SIDE = 1e7
"""Pixels. OpenCV reads no image of more than 2**20 a side; products of these stay finite."""
LARGEST_AREA = 1e10
"""Square pixels. COCOeval ignores larger objects even among those of all sizes."""


def _is_id(value: Any) -> bool:
    """Not a bool, which equals 0 or 1; and no wider than numpy's integers."""
    return type(value) is int and -(2**63) <= value < 2**63


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and in_range(value, -LARGEST_SIDE, LARGEST_SIDE)
        and value[2] >= 0
        and value[3] >= 0
    )


def is_area(value: Any) -> bool:
    return in_range((value,), 0, LARGEST_AREA)


def _is_flag(value: Any) -> bool:
    return isinstance(value, int | float) and value in (0, 1)


Field = tuple[Callable[[Any], bool], str]

_ID: Field = (_is_id, "a whole number below 2**63")
_TEXT: Field = (_is_text, "text")
_FIELDS: dict[str, dict[str, Field]] = {
    "images": {"id": _ID, "file_name": _TEXT},
    "categories": {"id": _ID, "name": _TEXT},
    "annotations": {
        "id": _ID,
        "image_id": _ID,
        "category_id": _ID,
        "bbox": (_is_box, "[x, y, width, height] in pixels, finite, no side negative or over 1e7"),
        "area": (is_area, "a number of square pixels from 0 to 1e10"),
        "iscrowd": (_is_flag, "0 or 1"),
    },
}
_OPTIONAL = ("area", "iscrowd")


def entry_faults(full: dict[str, Any]) -> Iterator[str]:
    """Fields that are missing or not what they must be, a sentence each."""
    for kind, fields in _FIELDS.items():
        for i, entry in enumerate(full[kind]):
            if not isinstance(entry, dict):
                yield f"{kind}[{i}] is {shown(entry)}; expected an object"
                continue
            for name, (fits, expected) in fields.items():
                if name not in entry:
                    if name not in _OPTIONAL:
                        yield f"{_place(kind, i, entry)} has no {name!r}; expected {expected}"
                elif not fits(entry[name]):
                    value = shown(entry[name])
                    yield f"{_place(kind, i, entry)}: {name!r} is {value}; expected {expected}"


def _place(kind: str, i: int, entry: dict[str, Any]) -> str:
    return f"{kind}[{i}] (id {shown(entry.get('id'))})"


def reference_faults(full: dict[str, Any]) -> Iterator[str]:
    """Ids and names that are there twice, or not at all; of a file whose entries are right."""
    for kind, name in (
        ("images", "id"),
        ("categories", "id"),
        ("categories", "name"),
        ("annotations", "id"),
    ):
        first: dict[Any, int] = {}
        for i, entry in enumerate(full[kind]):
            before = first.setdefault(entry[name], i)
            if before != i:
                yield f"{kind}[{before}] and {kind}[{i}] have the same {name} {shown(entry[name])}"
    for name, kind in (("image_id", "images"), ("category_id", "categories")):
        known = {entry["id"] for entry in full[kind]}
        for i, one in enumerate(full["annotations"]):
            if one[name] not in known:
                place = _place("annotations", i, one)
                yield f"{place}: its {name!r} {one[name]} is not among the {kind}"
