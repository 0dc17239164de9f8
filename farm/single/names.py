"""Which class a label is: by the model's own data, and as mmdet's evaluation counts it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from farm.sources.mmdet.config import as_names
from farm.specs import ModelFacts

log = logging.getLogger(__name__)


def say_differences(dataset: Any, facts: ModelFacts) -> None:
    """Where mmdet's evaluation counts a label as another class than it is, or may do so."""
    for part in getattr(dataset, "datasets", [dataset]):
        theirs, ours = as_evaluated(part), facts.classes
        wrong = [i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b]
        if not wrong:
            continue
        first, place = wrong[0], part.ann_file
        if facts.labels_from:
            log.info(
                f"mmdet's evaluation numbers labels by {place} and counts {len(wrong)} of"
                f" {len(ours)} as other classes than they are, label {first} as"
                f" {theirs[first]!r}: it is {ours[first]!r} by {facts.labels_from}. `farm run`"
                " evaluates by name"
            )
        else:
            log.info(
                f"mmdet's evaluation and the names in pictures take the order of {place}, label"
                f" {first} as {theirs[first]!r}; in the config's order it is {ours[first]!r}. Which"
                f" is right, the training annotation file says, and {facts.labels_doubt}"
            )


def of_labels(dataset: Any, facts: ModelFacts) -> tuple[str, ...]:
    """The names to paint: the model's where their order is known, else those evaluated."""
    return facts.classes if facts.labels_from else as_evaluated(_first(dataset))


def as_evaluated(part: Any) -> tuple[str, ...]:
    """The names of label 0, 1, ... as the data set's `evaluate` takes them."""
    if hasattr(part, "cat_ids") and hasattr(part, "coco"):  # in COCO's format: the file's order
        return tuple(part.coco.cats[category]["name"] for category in part.cat_ids)
    return as_names(part.CLASSES)


def palette(dataset: Any, names: Sequence[str]) -> Any:
    """The data set's colours, which stand in the order of its classes, in the order of `names`."""
    colours, classes = getattr(dataset, "PALETTE", None), as_names(dataset.CLASSES)
    if not isinstance(colours, list) or len(colours) != len(classes):
        return colours
    if set(names) != set(classes):
        return colours
    return [colours[classes.index(name)] for name in names]


def _first(dataset: Any) -> Any:
    return dataset.datasets[0] if hasattr(dataset, "datasets") else dataset
