"""COCO's format: categories, and what each entry of an annotation file must be."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from farm.datasets.segmentations import in_range
from farm.errors import shown

_KEY = re.compile(rb'"categories"\s*:\s*(?=\[)')

LARGEST_SIDE = 1e7
"""Pixels. OpenCV reads no image of more than 2**20 a side; products of these stay finite."""
LARGEST_AREA = 1e10
"""Square pixels. COCOeval ignores larger objects even among those of all sizes."""


def categories(path: Path) -> list[dict[str, Any]]:
    """Read the categories in the file's order.

    Files for training can have gigabytes, so the file is searched for the list rather than parsed.

    Raises:
        OSError: it cannot be read.
        ValueError: it has no list of categories with names and ids.
    """
    found = _found(path)
    if not isinstance(found, list) or not found:
        raise ValueError("it has no list of categories")
    for one in found:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str) or "id" not in one:
            raise ValueError("a category in it has no name or no id")
    return found


def _found(path: Path) -> Any:
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise ValueError("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            offsets = [match.end() for match in _KEY.finditer(content)]
            if len(offsets) == 1:
                return _list_at(content, offsets[0])
    # The key is also used deeper down, or the file is in another encoding of Unicode's.
    document = json.loads(path.read_bytes())
    return document.get("categories") if isinstance(document, dict) else None


def _list_at(content: mmap.mmap, start: int) -> Any:
    size = 1 << 16
    while True:
        text = content[start : start + size].decode("utf-8", errors="ignore")
        try:
            return json.JSONDecoder().raw_decode(text)[0]
        except ValueError:
            if start + size >= len(content):
                raise
        size *= 8


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
    """Whether the value is an area that COCOeval counts."""
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
    """Yield fields that are missing or wrong, a sentence each."""
    for kind, fields in _FIELDS.items():
        for i, entry in enumerate(full[kind]):
            if not isinstance(entry, dict):
                yield f"{kind}[{i}] is {shown(entry)}; expected an object"
                continue
            for name, (fits, expected) in fields.items():
                if name not in entry:
                    if name not in _OPTIONAL:
                        yield f"{_location(kind, i, entry)} has no {name!r}; expected {expected}"
                elif not fits(entry[name]):
                    value = shown(entry[name])
                    yield f"{_location(kind, i, entry)}: {name!r} is {value}; expected {expected}"


def _location(kind: str, i: int, entry: dict[str, Any]) -> str:
    return f"{kind}[{i}] (id {shown(entry.get('id'))})"


def reference_faults(full: dict[str, Any]) -> Iterator[str]:
    """Yield ids and names that exist twice or not at all; the entries must be right already."""
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
                location = _location("annotations", i, one)
                yield f"{location}: its {name!r} {one[name]} is not among the {kind}"
