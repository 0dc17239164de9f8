"""Which class each label of a model is: as files or the matrix say, or by AP where they do not."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from farm.datasets import coco
from farm.errors import InputError, nearest
from farm.failures import in_one_line
from farm.sources import mmdet
from farm.specs import (
    CheckInputs,
    Model,
    ModelFacts,
)
from farm.stages.check import examples

if TYPE_CHECKING:
    from farm.datasets.annotations import Document, Entry

log = logging.getLogger(__name__)

SHOWN = 12
"""Of an order of more classes only the first differences are shown."""


def describe_ap_by_order(
    inputs: CheckInputs, document: Document, orders: Mapping[str, tuple[str, ...]]
) -> str:
    """Describe PyTorch's AP under each order of labels, or why it could not be computed.

    document: the data set's annotations, if it has a file.
    """
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            values = _values(inputs, document, orders, Path(folder))
    except Exception as error:  # any model's own code on any image
        log.warning("no AP under each order", exc_info=True)
        return f"PyTorch's AP under each could not be found ({in_one_line(error)})"
    values_by_order = ", ".join(f"{value:.4f} with {name}" for name, value in values.items())
    return f"PyTorch's box AP on up to {examples.MOST} images: {values_by_order}"


def _values(
    inputs: CheckInputs, document: Document, orders: Mapping[str, tuple[str, ...]], folder: Path
) -> dict[str, float]:
    assert inputs.dataset is not None and isinstance(inputs.model, Model)
    data = examples.opened(inputs.dataset, document, folder)
    best = _fullest(data.document)
    annotations = folder / "few.json"
    annotations.write_text(json.dumps(_only(data.document, best)))
    detector = mmdet.load(inputs.model)
    found, metas = [], []
    for pixels, meta in data.prepared(best, detector.facts.pipeline, mmdet.size(inputs.model)):
        found.append(detector.reference(pixels.astype("float32", copy=False), meta))
        metas.append(meta)
    return {
        name: coco.average_precision(annotations, found, metas, order, False)["box_ap"] or 0.0
        for name, order in orders.items()
    }


def _fullest(document: Document) -> list[Entry]:
    """Return the images with most objects."""
    objects = Counter(one["image_id"] for one in document["annotations"])
    return sorted(document["images"], key=lambda one: -objects[one["id"]])[: examples.MOST]


def _only(document: Document, images: list[Entry]) -> Document:
    kept = {one["id"] for one in images}
    rows = [one for one in document["annotations"] if one["image_id"] in kept]
    return {**document, "images": images, "annotations": rows}


def with_label_order(facts: ModelFacts, inputs: CheckInputs, document: Document) -> ModelFacts:
    """Return the facts with `classes` in the order of the labels.

    document: the annotations of the data set; of one without a file at least its categories.

    Raises:
        InputError: the order is not known, or the matrix's `labels` are not the model's classes.
    """
    if inputs.labels:
        _require_same(inputs.labels, facts.classes)
        return replace(facts, classes=inputs.labels, labels_from="`labels` of the matrix")
    if facts.labels_from or not facts.classes:
        return facts
    order = tuple(one["name"] for one in document["categories"] if one["name"] in facts.classes)
    if order == facts.classes and not facts.labels_contradicted:
        return replace(facts, labels_from="the config, with the order of the evaluation file")
    raise _unknown_order(facts, order, inputs, document)


def _require_same(labels: Sequence[str], classes: Sequence[str]) -> None:
    if unknown := [name for name in labels if name not in classes]:
        hint = nearest(unknown[0], classes)
        raise InputError(f"{unknown[0]!r} is no class of the model{hint}", "labels")
    if lost := [name for name in classes if name not in labels]:
        raise InputError(
            f"the model's class {lost[0]!r} is missing; give all {len(classes)} in the order of"
            " the labels",
            "labels",
        )


def _unknown_order(
    facts: ModelFacts, order: tuple[str, ...], inputs: CheckInputs, document: Document
) -> InputError:
    assert isinstance(inputs.model, Model)  # those of other sources say their order themselves
    orders = {"the config's order": facts.classes}
    if order != facts.classes:
        orders["the evaluation file's order"] = order
    shown = ". ".join(f"{name.capitalize()}: {text}" for name, text in _shown(orders).items())
    return InputError(
        "which class each label is, is not known: mmdet numbers labels by the order of the"
        f" categories in the training annotation file, and {facts.labels_doubt}. {shown}."
        f" {describe_ap_by_order(inputs, document, orders)}. Say the order with `labels: [...]`"
        " of this model in the matrix, or name the file that it was trained with in its"
        " cfg_options",
        inputs.model.config.path,
    )


def _shown(orders: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """List the classes of each order; of long ones, those around the first difference."""
    listed = list(orders.values())
    if len(listed[0]) <= SHOWN:
        return {name: ", ".join(order) for name, order in orders.items()}
    differ = [i for i, names in enumerate(zip(*listed, strict=True)) if len(set(names)) > 1]
    indices = (differ or [*range(SHOWN)])[: SHOWN // 2]
    return {
        name: ", ".join(f"{i} {order[i]!r}" for i in indices) + f", ... ({len(order)} labels)"
        for name, order in orders.items()
    }
