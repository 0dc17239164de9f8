"""Class names of labels: by the model's own data, and as mmdet's evaluation takes them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from farm.sources.mmdet.config import as_names
from farm.specs import ModelFacts

log = logging.getLogger(__name__)


def log_label_differences(dataset: Any, facts: ModelFacts) -> None:
    """Log where mmdet's evaluation takes, or may take, a label for another class than it is."""
    for part in getattr(dataset, "datasets", [dataset]):
        evaluated, own = evaluated_names(part), facts.classes
        wrong = [i for i, (a, b) in enumerate(zip(evaluated, own, strict=False)) if a != b]
        if not wrong:
            continue
        first, file = wrong[0], part.ann_file
        if facts.labels_from:
            log.info(
                f"mmdet's evaluation numbers labels by {file} and counts {len(wrong)} of"
                f" {len(own)} as other classes than they are, label {first} as"
                f" {evaluated[first]!r}: it is {own[first]!r} by {facts.labels_from}. `farm run`"
                " evaluates by name"
            )
        else:
            log.info(
                f"mmdet's evaluation and the names in pictures take the order of {file}, label"
                f" {first} as {evaluated[first]!r}; in the config's order it is {own[first]!r}."
                f" The training annotation file says which is right, and {facts.labels_doubt}"
            )


def label_names(dataset: Any, facts: ModelFacts) -> tuple[str, ...]:
    """Return the names to draw: the model's where their order is known, else the evaluated ones."""
    return facts.classes if facts.labels_from else evaluated_names(_first(dataset))


def evaluated_names(part: Any) -> tuple[str, ...]:
    """Return the names of label 0, 1, ... as the data set's `evaluate` takes them."""
    if hasattr(part, "cat_ids") and hasattr(part, "coco"):  # in COCO's format: the file's order
        return tuple(part.coco.cats[category]["name"] for category in part.cat_ids)
    return as_names(part.CLASSES)


def palette(dataset: Any, names: Sequence[str]) -> Any:
    """Return the data set's colours, which are in the order of its classes, in that of `names`."""
    colours, classes = getattr(dataset, "PALETTE", None), as_names(dataset.CLASSES)
    if not isinstance(colours, list) or len(colours) != len(classes):
        return colours
    if set(names) != set(classes):
        return colours
    return [colours[classes.index(name)] for name in names]


def _first(dataset: Any) -> Any:
    return dataset.datasets[0] if hasattr(dataset, "datasets") else dataset
