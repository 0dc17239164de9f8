"""Finds how a data set with code of the user's numbers labels, by opening and observing it.

The labels that it gives to boxes are compared with the categories of these boxes in the file.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import numpy as np
from mmdet.datasets import build_dataset

from farm.sources.mmdet import numbering
from farm.sources.mmdet.test_data import Part

Box = tuple[float, ...]
Truth = Mapping[Any, Mapping[Box, set[str]]]
"""Maps an image's id, then a box, to the class names that the file gives it."""
Names = Mapping[int, set[str]]
"""Maps a label to its class names; one each in a consistent data set."""

MOST_IMAGES = 1000
"""Most images that are read; they need not have a box of every class."""


def of_boxes(part: Part, file: Path, where: str, count: int) -> list[str]:
    """Return the names of labels 0, 1, ... of a data set in COCO's format.

    file: its annotation file. where: the config's path. count: how many classes the model has.

    Raises:
        ValueError: its boxes do not determine the names. The data set's own code may raise any
            other error.
    """
    truth = _boxes(file)
    dataset = _opened(part, file, where)
    seen = _seen(dataset, truth)
    if not seen:
        raise ValueError("the data set has no box that the file has, too")
    stated = _stated(dataset)
    agree = all(names <= stated.get(label, set()) for label, names in seen.items())
    if not agree and len(seen) != count:
        raise ValueError("the data set numbers boxes otherwise than its cat2label says")
    return _in_order(stated if agree else seen)


def of_table(part: Part, file: Path, where: str) -> list[str]:
    """Return the names of a data set in Pascal VOC's format, whose `cat2label` maps them to labels.

    Raises:
        ValueError: as `of_boxes`.
    """
    table = _opened(part, file, where).cat2label
    names: dict[int, set[str]] = defaultdict(set)
    for name, label in table.items():
        names[int(label)].add(name)
    return _in_order(names)


def _opened(part: Part, file: Path, where: str) -> Any:
    """Opens the data set as for training, but without transforms, which need images."""
    settings = {**part.settings, "ann_file": str(file.absolute()), "pipeline": []}
    settings.pop("proposal_file", None)
    if (classes := numbering.stated_classes(part, where)) is not None:
        settings["classes"] = list(classes)
    return build_dataset(settings)


def _boxes(file: Path) -> Truth:
    document = json.loads(file.read_bytes())
    names = {one["id"]: one["name"] for one in document["categories"]}
    found: dict[Any, dict[Box, set[str]]] = defaultdict(lambda: defaultdict(set))
    for one in document["annotations"]:
        x, y, w, h = one["bbox"]
        found[one["image_id"]][_rounded((x, y, x + w, y + h))].add(names[one["category_id"]])
    return found


def _rounded(box: Any) -> Box:
    return tuple(np.asarray(box, np.float32).tolist())


def _seen(dataset: Any, truth: Truth) -> Names:
    seen: dict[int, set[str]] = defaultdict(set)
    for i in range(min(len(dataset), MOST_IMAGES)):
        for label, name in _numbered(dataset[i], truth):
            seen[label].add(name)
    return seen


def _numbered(results: Any, truth: Truth) -> Iterator[tuple[int, str]]:
    """Yields label and name of each box that has exactly one name in the file."""
    listed = truth.get(results["img_info"]["id"], {})
    info = results["ann_info"]
    for box, label in zip(info["bboxes"], info["labels"], strict=True):
        names = listed.get(_rounded(box), set())
        if len(names) == 1:
            yield int(label), next(iter(names))


def _stated(dataset: Any) -> Names:
    """The names by `cat2label`, which the user's code may leave unchanged or not create."""
    names: dict[int, set[str]] = defaultdict(set)
    numbered = getattr(dataset, "cat_ids", ())
    for category, label in getattr(dataset, "cat2label", {}).items():
        if category in numbered:
            names[int(label)].add(dataset.coco.cats[category]["name"])
    return names


def _in_order(names: Names) -> list[str]:
    """Raises ValueError: labels are not 0, 1, ..., or a label has several names."""
    if sorted(names) != [*range(len(names))]:
        raise ValueError(f"the data set numbers its classes as {sorted(names)[:20]}")
    for label, several in sorted(names.items()):
        if len(several) != 1:
            raise ValueError(f"the data set has label {label} for {', '.join(sorted(several))}")
    return [next(iter(names[label])) for label in range(len(names))]
