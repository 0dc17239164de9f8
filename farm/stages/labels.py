"""Which class each label of a model is: what its files say, or the matrix, or a refusal.

A wrong order is no error anywhere else: boxes stay right, every class is another, and the AP of
PyTorch and of every engine falls alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from farm.datasets.annotations import Document
from farm.errors import InputError, nearest
from farm.inputs import CheckInputs, Model, ModelFacts
from farm.stages import label_orders

SHOWN = 12
"""Of an order of more classes only the first differences are shown."""


def known(facts: ModelFacts, inputs: CheckInputs, document: Document) -> ModelFacts:
    """The facts with `classes` in the order of the labels.

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
    raise _refusal(facts, order, inputs, document)


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


def _refusal(
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
        f" {label_orders.compared(inputs, document, orders)}. Say the order with `labels: [...]`"
        " of this model in the matrix, or name the file that it was trained with in its"
        " cfg_options",
        inputs.model.config.path,
    )


def _shown(orders: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Each order in words; of long ones what is around the first difference."""
    listed = list(orders.values())
    if len(listed[0]) <= SHOWN:
        return {name: ", ".join(order) for name, order in orders.items()}
    differ = [i for i, names in enumerate(zip(*listed, strict=True)) if len(set(names)) > 1]
    places = (differ or [*range(SHOWN)])[: SHOWN // 2]
    return {
        name: ", ".join(f"{i} {order[i]!r}" for i in places) + f", ... ({len(order)} labels)"
        for name, order in orders.items()
    }
