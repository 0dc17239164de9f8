"""The names of a detector's classes, and which class each label is.

mmdet's data sets in COCO's format number labels in the order of the categories in the annotation
file, and `CLASSES` only selects among them. Its other data sets number by `CLASSES`; those with a
user's code may number in any way. So the meaning of a label depends on the training data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv
from mmdet.datasets import CocoDataset, XMLDataset
from mmdet.datasets import coco as coco_format

from farm.errors import InputError
from farm.failures import out_of_memory, text_of
from farm.sources import notices
from farm.sources.mmdet import config
from farm.sources.mmdet.data import numbering
from farm.sources.mmdet.data.overrides import overridden
from farm.sources.mmdet.data.test_data import Part, parts

if TYPE_CHECKING:
    from farm import specs

_OF_RESULTS = {"evaluate", "format_results", "results2json", "results2txt", "__repr__"}
"""Methods of data sets that do not affect how training boxes are numbered."""

_OF_TABLES = {"__init__", "_filter_imgs", "load_annotations"}
"""Methods that a data set in Pascal VOC's format may override and still number by `cat2label`."""


def class_names(
    settings: Any, meta: Mapping[str, Any], model: specs.Model, count: int | None
) -> tuple[tuple[str, ...], bool]:
    """Return the names, and whether they are in the order of the training's `CLASSES`.

    `cfg_options` take precedence, then the names that training stored in the checkpoint.
    count: how many classes the model has, if known.

    Raises:
        InputError: the number of names differs from the number of classes.
    """
    stated = _states_classes(dict(model.cfg_options))
    names = () if stated else names_in_checkpoint(meta)
    certain, where = bool(names), model.checkpoint.path
    if not names:
        names, where = config.class_names(settings, model.config.path), model.config.path
    if count is not None and len(names) != count:
        raise InputError(_miscounted(len(names), count, stated), where)
    return names, certain


def _miscounted(names: int, count: int, stated: bool) -> str:
    if stated:
        return f"the model has {count} classes, and `data.test.classes` in cfg_options {names}"
    return (
        f"the model has {count} classes and {names} names; give the names in cfg_options as"
        " `data.test.classes`"
    )


def names_in_checkpoint(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names that mmdet 2 stores as `CLASSES`, and MMDetection 3 in `dataset_meta`."""
    later = meta.get("dataset_meta")
    later = later if isinstance(later, Mapping) else {}
    found = (meta.get("CLASSES"), later.get("classes"), later.get("CLASSES"))
    return next(filter(None, map(config.as_names, found)), ())


def _states_classes(value: Any, place: str = "") -> bool:
    """Whether an option, nested or dotted, sets `classes` of `data.test` or of a part of it."""
    if f"{place}.".startswith("data.test.") and place.endswith(".classes"):
        return True
    lead = f"{place}." if place else ""
    if isinstance(value, Mapping):
        return any(_states_classes(one, f"{lead}{key}") for key, one in value.items())
    listed = isinstance(value, list | tuple)
    return listed and any(_states_classes(one, f"{lead}{i}") for i, one in enumerate(value))


@dataclass(frozen=True)
class Labels:
    """The class names in the order of the labels.

    names: of label 0, 1, ... said_by: the source of this order. If there is none, the order is the
    config's, and `doubt` gives the reason. contradicted: that order is known to be wrong or
    impossible.
    """

    names: tuple[str, ...]
    said_by: str = ""
    doubt: str = ""
    contradicted: bool = False


def in_label_order(
    settings: mmcv.Config, names: tuple[str, ...], certain: bool, where: str
) -> Labels:
    """Return `names` in the order of the labels, as far as the training data determines it.

    certain: their order is that of the training's `CLASSES`, not just the config's.
    """
    data = [_typed(part, settings) for part in parts(settings, "train")]
    if not (data := data or _unlike_coco(parts(settings, "test"))):
        return Labels(names, doubt="the config names none (data.train.ann_file)")
    found = [_of_part(part, names, certain, where) for part in data]
    if wrong := next((one for one in found if one.contradicted), None):
        return wrong
    known = [one for one in found if one.said_by]
    for one in known[1:]:
        if one.names != known[0].names:
            doubt = f"{known[0].said_by} and {one.said_by} number the classes differently"
            return Labels(names, doubt=doubt, contradicted=True)
    return known[0] if known else found[0]


def _typed(part: Part, settings: mmcv.Config) -> Part:
    """A part with a type: that of the test's data sets if it has none (options may add a file)."""
    if "type" in part.settings:
        return part
    kinds = [one.kind for one in parts(settings, "test")] or [CocoDataset]
    return replace(part, settings={**part.settings, "type": kinds[0]})


def _unlike_coco(tested: list[Part]) -> list[Part]:
    """The test's data sets, if none of them numbers by its own annotation file."""
    other = all(part.kind and not issubclass(part.kind, CocoDataset) for part in tested)
    return tested if other else []


def _of_part(part: Part, names: tuple[str, ...], certain: bool, where: str) -> Labels:
    for one in (part, *part.wrappers):
        if one.kind is None and (one is part or "type" in one.settings):
            return Labels(names, doubt=f"{one.place} is of no type that mmdet knows")
    for one in part.wrappers:
        if one.kind and (methods := overridden(one.kind)):
            return Labels(names, doubt=_foreign(one, methods))
    if issubclass(part.kind, CocoDataset):
        return _of_coco(part, names, where)
    return _of_classes(part, names, certain, where)


def _methods(kind: Any) -> frozenset[str]:
    """The overridden methods that may affect how boxes are numbered."""
    reader = overridden(coco_format.COCO) if issubclass(kind, CocoDataset) else frozenset()
    return (overridden(kind) - _OF_RESULTS) | reader


def _foreign(part: Part, methods: Iterable[str]) -> str:
    own = ", ".join(sorted(methods))
    return f"{part.place} is a {part.kind.__name__}, whose own code ({own}) may number otherwise"


def _file(part: Part, where: str) -> Path | None:
    """The annotation file, searched for where mmdet does and in the folders above the config."""
    return notices.find(part.file, where, "above") if part.file else None


def _in_short(error: Exception) -> str:
    """The error in one line; an out-of-memory error is raised again."""
    if out_of_memory(error):
        raise error
    return " ".join(text_of(error).split())[:200]


# In COCO's format --------------------------------------------------------------------------


def _of_coco(part: Part, names: tuple[str, ...], where: str) -> Labels:
    file, option = _file(part, where), part.file_option
    if file is None:
        absent = f"that one is not here: {Path.cwd() / part.file}"
        lacking = absent if part.file else "the config names none"
        return Labels(names, doubt=f"{lacking} ({option})")
    methods = _methods(part.kind)
    try:
        if methods:
            found = numbering.of_boxes(part, file, where, len(names))
        else:
            selected = numbering.own_classes(part, where)
            found = numbering.of_categories(
                part.kind, file, names if selected is None else selected
            )
    except Exception as error:  # any file, read by the user's code
        lead = f"{_foreign(part, methods)}: " if methods else "that one cannot be read: "
        return Labels(names, doubt=f"{lead}{file}: {_in_short(error)} ({option})")
    return _by_file(found, names, part, file)


def _by_file(found: list[str], names: tuple[str, ...], part: Part, file: Path) -> Labels:
    reads = f", as {part.kind.__name__} reads it" if _methods(part.kind) else ""
    said_by = f"the training annotation file {file}{reads}"
    selects = numbering.selects(part.kind)
    if len(found) == len(names) == len(set(found)) and (not selects or set(found) == set(names)):
        return Labels(tuple(found), said_by)
    if selects and not set(found) & set(names):
        return Labels(names, doubt=f"that one is of another model: {file} has none of its classes")
    lost = [name for name in names if name not in found]
    what = f"has no category {lost[0]!r}" if lost else "names other categories"
    selected = f", as {part.place} selects them," if part.settings.get("classes") else ""
    doubt = (
        f"{said_by}{selected} {what}, so it cannot be the one of this model's {len(names)} classes"
    )
    return Labels(names, doubt=doubt, contradicted=True)


# In other formats --------------------------------------------------------------------------


def _of_classes(part: Part, names: tuple[str, ...], certain: bool, where: str) -> Labels:
    kind, methods = part.kind.__name__, _methods(part.kind)
    said_by, certain = f"the classes of {kind}", certain and not methods
    try:
        found = _own_table(part, methods, where) if methods else numbering.of_classes(part, where)
        stated = numbering.own_classes(part, where) is not None
    except Exception as error:  # the user's code, as above
        if certain:
            return Labels(names, said_by)
        lead = _foreign(part, methods) if methods else f"{part.place} is a {kind}"
        return Labels(names, doubt=f"{lead}: {_in_short(error)}")
    if sorted(found) == sorted(names):
        return Labels(names if certain else found, said_by)
    doubt = f"{said_by} ({part.place}) are others than the model's {len(names)}"
    return Labels(names, doubt=doubt, contradicted=stated and bool({*found} & {*names}))


def _own_table(part: Part, methods: frozenset[str], where: str) -> tuple[str, ...]:
    """The names by the user's code. Raises ValueError where that does not determine them."""
    if not issubclass(part.kind, XMLDataset) or methods - _OF_TABLES:
        raise ValueError("only the one who wrote it knows what the labels of its boxes are")
    if (file := _file(part, where)) is None:
        raise ValueError(f"its file is not here: {Path.cwd() / part.file} ({part.file_option})")
    return tuple(numbering.of_table(part, file, where))
