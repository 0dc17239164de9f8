"""Finds how data sets number labels.

MMDetection's own: by their files and settings alone. Those with a user's code: by opening them and
comparing the labels of their boxes with the categories of the file.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv
import numpy as np
from mmdet.datasets import (
    CocoPanopticDataset,
    LVISV05Dataset,
    LVISV1Dataset,
    Objects365V1Dataset,
    OpenImagesChallengeDataset,
    OpenImagesDataset,
    build_dataset,
)

from farm.datasets.coco_format import categories
from farm.sources import notices
from farm.sources.mmdet.config import as_names
from farm.sources.mmdet.data import overrides

if TYPE_CHECKING:
    from farm.sources.mmdet.data.test_data import Part

_BY_ID = (Objects365V1Dataset.load_annotations,)

_UNSELECTED = (
    CocoPanopticDataset.load_annotations,
    LVISV05Dataset.load_annotations,
    LVISV1Dataset.load_annotations,
)
"""Types of data set that number every category of the file, regardless of `CLASSES`."""

Box = tuple[float, ...]

Truth = Mapping[Any, Mapping[Box, set[str]]]
"""Maps an image's id, then a box, to the class names that the file gives it."""

Names = Mapping[int, set[str]]
"""Maps a label to its class names; one each in a consistent data set."""

MOST_IMAGES = 1000
"""Most images that are read; they need not have a box of every class."""


def selects(kind: Any) -> bool:
    """Return whether a data set in COCO's format numbers only the categories in `CLASSES`."""
    return kind.load_annotations not in _UNSELECTED


def of_categories(kind: Any, file: Path, selected: Sequence[str]) -> list[str]:
    """Return the names of labels of a data set in COCO's format.

    They are in the order of the file's categories, of which only those in `selected` get a label.

    Raises:
        OSError: as `categories`.
        ValueError: as `categories`.
    """
    found = categories(file)
    if not selects(kind) or not selected:  # COCO's tools read an empty list as all categories
        selected = [one["name"] for one in found]
    if kind.load_annotations in _BY_ID:
        found = sorted(found, key=lambda one: one["id"])
    return [one["name"] for one in found if one["name"] in selected]


def of_classes(part: Part, where: str) -> tuple[str, ...]:
    """Return the names of labels of any other format: `CLASSES` of its settings, file or type.

    where: the config's path.

    Raises:
        ValueError: there are none, one occurs twice, or their file does not exist.
    """
    if issubclass(part.kind, OpenImagesDataset):
        names = _of_label_file(part, where)
    else:
        stated = stated_classes(part, where)
        names = as_names(part.kind.CLASSES if stated is None else stated)
    if not names:
        raise ValueError(f"{part.place} names no classes")
    if len(set(names)) != len(names):
        raise ValueError(f"{part.place} names a class twice")
    return names


def stated_classes(part: Part, where: str) -> tuple[str, ...] | None:
    """Return the `classes` of its settings or of the file they name; None where it has none.

    Raises:
        ValueError: their file does not exist.
    """
    stated = part.settings.get("classes")
    if isinstance(stated, str):
        return tuple(mmcv.list_from_file(str(_found(stated, where, "beside", part, "classes"))))
    return None if stated is None else as_names(stated)


def own_classes(part: Part, where: str) -> tuple[str, ...] | None:
    """Return the classes that the user chose, by its settings or by a data set type of theirs.

    None otherwise: `CLASSES` of MMDetection's own types is a default, not a choice.
    """
    if (stated := stated_classes(part, where)) is not None:
        return stated
    definer = next((one for one in part.kind.__mro__ if "CLASSES" in vars(one)), None)
    if definer is None or overrides.is_mmdets(definer):
        return None
    return as_names(part.kind.CLASSES)


def _of_label_file(part: Part, where: str) -> tuple[str, ...]:
    """The names of Open Images: from its label file, regardless of `classes`."""
    name = str(part.settings.get("label_file") or "")
    if not name:
        raise ValueError(f"{part.place} names no label_file")
    with _found(name, where, "above", part, "label_file").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if issubclass(part.kind, OpenImagesChallengeDataset):
        rows.sort(key=lambda row: int(row[2]))
        if [int(row[2]) for row in rows] != [*range(1, len(rows) + 1)]:
            raise ValueError(f"the labels in {name} are not numbered from 1 without a gap")
    return tuple(row[1] for row in rows)


def _found(name: str, where: str, reach: Any, part: Part, option: str) -> Path:
    path = notices.find(name, where, reach)
    if path is None:
        raise ValueError(f"the file of classes is not here: {name} ({part.place}.{option})")
    return path


def of_boxes(part: Part, file: Path, where: str, count: int) -> list[str]:
    """Return the names of labels 0, 1, ... of a data set in COCO's format.

    file: its annotation file. where: the config's path. count: how many classes the model has.

    Raises:
        ValueError: its boxes do not determine the names. The data set's own code may raise any
            other error.
    """
    truth = _boxes(file)
    dataset = _opened(part, file, where)
    seen = _observed_names(dataset, truth)
    if not seen:
        raise ValueError("the data set has no box that the file has, too")
    stated = _stated_names(dataset)
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
    if (classes := stated_classes(part, where)) is not None:
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


def _observed_names(dataset: Any, truth: Truth) -> Names:
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


def _stated_names(dataset: Any) -> Names:
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
