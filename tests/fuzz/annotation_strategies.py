"""Annotation files in COCO's format: right ones, and those with something wrong in them."""

from __future__ import annotations

import copy
import json
from typing import Any

from bounds import JUNK, TEXT
from hypothesis import strategies as st

IDS = st.integers(0, 5) | st.integers(0, 2**31)
SIDE = 200


def distinct(draw: st.DrawFn, values: st.SearchStrategy[Any], least: int, most: int) -> list[Any]:
    return draw(st.lists(values, min_size=least, max_size=most, unique=True))


@st.composite
def box(draw: st.DrawFn) -> list[float]:
    """x, y, width and height in an image of SIDE x SIDE pixels, a pixel at least."""
    x, y = draw(st.integers(0, SIDE - 1)), draw(st.integers(0, SIDE - 1))
    width, height = draw(st.integers(1, SIDE - x)), draw(st.integers(1, SIDE - y))
    return [x + 0.5, y, width - 0.5, height] if draw(st.booleans()) else [x, y, width, height]


@st.composite
def right(draw: st.DrawFn) -> dict[str, Any]:
    images = [
        {"id": number, "file_name": f"{i}.png", "width": SIDE, "height": SIDE}
        for i, number in enumerate(distinct(draw, IDS, 1, 4))
    ]
    names = distinct(draw, st.sampled_from(["cat", "dog", "a b", "Ünïcode", "0"]), 1, 4)
    ids = distinct(draw, IDS, len(names), len(names))
    categories = [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)]
    objects = []
    for number in distinct(draw, IDS, 0, 8):
        place = draw(box())
        one = {"id": number, "bbox": place, "area": place[2] * place[3]}
        one |= {"image_id": draw(st.sampled_from(images))["id"]}
        one |= {
            "category_id": draw(st.sampled_from(ids)),
            "iscrowd": int(draw(st.integers(0, 9)) == 0),
        }
        objects.append(one)
    return {"images": images, "annotations": objects, "categories": categories}


FIELDS = st.sampled_from(
    ["id", "file_name", "width", "height", "name", "bbox", "area", "iscrowd", "image_id",
     "category_id", "segmentation"]
)  # fmt: skip
NUMBERS = st.sampled_from([0, -1, 1e308, float("nan"), float("inf"), -0.0, 2**63, 10**30, True])
PLACES = st.lists(NUMBERS | st.floats(), min_size=3, max_size=5)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A right file with fields replaced, taken away or doubled; sometimes torn as a text."""
    document = copy.deepcopy(draw(right()))
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(sorted(document)) | TEXT)
        entries = document.get(kind)
        if not isinstance(entries, list) or not entries or draw(st.integers(0, 9)) == 0:
            document[kind] = draw(JUNK)
            continue
        i = draw(st.integers(0, len(entries) - 1))
        if draw(st.booleans()):
            entries.append(copy.deepcopy(entries[i]))
        elif isinstance(entries[i], dict) and draw(st.integers(0, 5)):
            entries[i][draw(FIELDS)] = draw(NUMBERS | PLACES | JUNK)
            if draw(st.booleans()):
                entries[i].pop(draw(FIELDS), None)
        else:
            entries[i] = draw(JUNK)
    text = json.dumps(document, ensure_ascii=draw(st.booleans()))
    data = text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"])), "replace")
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data
