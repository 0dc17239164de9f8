"""Which class each label of a detector is.

mmdet's data sets in COCO's format number labels by the order of the categories in the annotation
file, and `CLASSES` only selects among them; all others number by `CLASSES`. So what a label means
is said by the data that the detector was trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv
from mmdet.datasets import (
    CocoDataset,
    CocoPanopticDataset,
    LVISV05Dataset,
    LVISV1Dataset,
    Objects365V1Dataset,
    build_dataset,
)

from farm.datasets.categories import categories
from farm.sources import notices
from farm.sources.mmdet.named_data import Part, parts

_BY_ID = (Objects365V1Dataset.load_annotations,)
_UNSELECTED = (
    CocoPanopticDataset.load_annotations,
    LVISV05Dataset.load_annotations,
    LVISV1Dataset.load_annotations,
)
"""These number every category of the file, whatever is in `CLASSES`."""


@dataclass(frozen=True)
class Labels:
    """names: of label 0, 1, ... said_by: what gives this order. Where nothing does, it is the
    config's, and `doubt` says why; contradicted: that order is known to be wrong or impossible."""

    names: tuple[str, ...]
    said_by: str = ""
    doubt: str = ""
    contradicted: bool = False


def ordered(config: mmcv.Config, names: tuple[str, ...], certain: bool, where: str) -> Labels:
    """`names` in the order of the labels, as far as the config's training data says it.

    certain: their order is that of the training (or the user's own), not just the config's.
    """
    trained = [_typed(part, config) for part in parts(config, "train")]
    if not trained:
        return _untrained(config, names)
    found = [_of_part(part, names, certain, where) for part in trained]
    if wrong := next((one for one in found if one.contradicted), None):
        return wrong
    known = [one for one in found if one.said_by]
    for one in known[1:]:
        if one.names != known[0].names:
            doubt = f"{known[0].said_by} and {one.said_by} number the classes differently"
            return Labels(names, doubt=doubt, contradicted=True)
    return known[0] if known else found[0]


def _typed(part: Part, config: mmcv.Config) -> Part:
    """A part without a type, as when options add its file alone, is of the test's."""
    if "type" in part.settings:
        return part
    kinds = [one.kind for one in parts(config, "test")] or [CocoDataset]
    return replace(part, settings={**part.settings, "type": kinds[0]})


def _untrained(config: mmcv.Config, names: tuple[str, ...]) -> Labels:
    """Without `data.train`, the kind of the test's data set can still tell."""
    kinds = {part.kind for part in parts(config, "test")}
    if kinds and all(kind and not issubclass(kind, CocoDataset) for kind in kinds):
        return Labels(names, f"the classes of {kinds.pop().__name__}")
    return Labels(names, doubt="the config names none (data.train.ann_file)")


def _of_part(part: Part, names: tuple[str, ...], certain: bool, where: str) -> Labels:
    kind = part.kind
    if kind is None:
        return Labels(names, doubt=f"{part.place} is of no type that mmdet knows")
    if not issubclass(kind, CocoDataset):
        own = part.settings.get("classes")
        differs = isinstance(own, list | tuple) and sorted(map(str, own)) == sorted(names)
        return Labels(
            tuple(map(str, own)) if own and differs and not certain else names,
            f"the classes of {kind.__name__}",
        )
    option = part.file_option
    # as mmdet does; and configs are run from elsewhere too
    file = notices.find(part.file, where, "above") if part.file else None
    if file is None:
        absent = f"that one is not here: {Path.cwd() / part.file}"
        lacking = absent if part.file else "the config names none"
        return Labels(names, doubt=f"{lacking} ({option})")
    try:
        return _by_file(_numbered(part, kind, file, names), names, kind, file)
    except Exception as error:  # any file, read by any class of the user's
        text = " ".join(str(error).split())[:200]
        return Labels(names, doubt=f"that one cannot be read: {file}: {text} ({option})")


def _numbered(part: Part, kind: Any, file: Path, names: Sequence[str]) -> list[str]:
    """The names of the labels as `kind` numbers them in `file`."""
    reads = kind.load_annotations
    if not kind.load_annotations.__module__.startswith("mmdet."):
        return _opened(part, file)
    found = categories(file)
    if reads in _BY_ID:
        found = sorted(found, key=lambda one: one["id"])
    return [one["name"] for one in found if reads in _UNSELECTED or one["name"] in names]


def _opened(part: Part, file: Path) -> list[str]:
    """By the user's own code, where it reads the file in a way of its own."""
    settings = {**part.settings, "ann_file": str(file.absolute()), "pipeline": []}
    dataset = build_dataset({**settings, "test_mode": True})
    return [dataset.coco.cats[one]["name"] for one in dataset.cat_ids]


def _by_file(found: list[str], names: tuple[str, ...], kind: Any, file: Path) -> Labels:
    said_by = f"the training annotation file {file}"
    selects = kind.load_annotations not in _UNSELECTED
    if len(found) == len(names) == len(set(found)) and (not selects or set(found) == set(names)):
        return Labels(tuple(found), said_by)
    if selects and not set(found) & set(names):
        return Labels(names, doubt=f"that one is of another model: {file} has none of its classes")
    lost = [name for name in names if name not in found]
    what = f"has no category {lost[0]!r}" if lost else "names other categories"
    doubt = f"{said_by} {what}, so it cannot be the one of this model's {len(names)} classes"
    return Labels(names, doubt=doubt, contradicted=True)
