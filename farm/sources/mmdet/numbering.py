"""Finds how MMDetection's own data sets number labels, from their files and settings alone."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv
from mmdet.datasets import (
    CocoPanopticDataset,
    LVISV05Dataset,
    LVISV1Dataset,
    Objects365V1Dataset,
    OpenImagesChallengeDataset,
    OpenImagesDataset,
)

from farm.datasets.coco_format import categories
from farm.sources import notices
from farm.sources.mmdet import overrides
from farm.sources.mmdet.config import as_names
from farm.sources.mmdet.test_data import Part

_BY_ID = (Objects365V1Dataset.load_annotations,)
_UNSELECTED = (
    CocoPanopticDataset.load_annotations,
    LVISV05Dataset.load_annotations,
    LVISV1Dataset.load_annotations,
)
"""Types of data set that number every category of the file, regardless of `CLASSES`."""


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
