"""Finds the names of a detector's classes in its options, checkpoint, config or data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farm import specs
from farm.errors import InputError
from farm.sources.mmdet import config


def of(
    settings: Any, meta: Mapping[str, Any], model: specs.Model, count: int | None
) -> tuple[tuple[str, ...], bool]:
    """Return the names, and whether they are in the order of the training's `CLASSES`.

    `cfg_options` take precedence, then the names that training stored in the checkpoint.
    count: how many classes the model has, if known.

    Raises:
        InputError: the number of names differs from the number of classes.
    """
    stated = _states_classes(dict(model.cfg_options))
    names = () if stated else in_checkpoint(meta)
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


def in_checkpoint(meta: Mapping[str, Any]) -> tuple[str, ...]:
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
