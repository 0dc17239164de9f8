"""check: find the facts that only the model's own code knows, and everything wrong with the files.

It runs before any heavy work: it loads config and checkpoint, checks that they belong together, and
compares the model's classes with those of the data set and of the images on which int8's `auto`
measures AP: files or matrix must say which class each label is. It tries the test pipeline on the
first images.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.catalog import SOURCES
from farm.datasets import coco, open_dataset
from farm.datasets.annotations import Annotations, Document, Entry, read_annotations
from farm.errors import InputError, nearest
from farm.failures import in_one_line
from farm.plan.content import dependencies
from farm.sources import mmdet
from farm.sources.watch import watching
from farm.specs import (
    AnyModel,
    CheckInputs,
    CocoDataset,
    Dataset,
    File,
    FolderDataset,
    Model,
    ModelFacts,
    OtherDataset,
    ShapesDataset,
)
from farm.stages.check import examples

if TYPE_CHECKING:
    from farm.stages import Context

log = logging.getLogger(__name__)


SHOWN = 12


"""Of an order of more classes only the first differences are shown."""


def run(inputs: CheckInputs, context: Context) -> Mapping[str, Any]:
    """Return the model's facts, and `notes`: what is odd in the data sets, a sentence each.

    Raises:
        InputError: a file of the user's is wrong.
        StepFailed: the model cannot be loaded, or its pipeline fails on an image.
    """
    source = SOURCES[inputs.model.source].adapter()
    getattr(source, "Detector", None)  # import its packages before the model is watched
    with watching(inputs.model, context.folder / dependencies.FILE):
        facts = source.check(inputs.model)
        if inputs.dataset and inputs.dataset.type == "config":
            entry = _own_data(inputs.model)
            facts = replace(facts, data=json.dumps(entry, sort_keys=True))
            inputs = replace(inputs, dataset=_opened_as(entry, inputs.dataset))
    found = _check_dataset(inputs.dataset, facts, facts.masks) if inputs.dataset else None
    notes = list(found.notes) if found else []
    if inputs.calibration is not None:
        notes += _check_dataset(inputs.calibration, facts, masks=False).notes
    if inputs.dataset and found:
        facts = with_label_order(facts, inputs, found.document)
        if facts.pipeline:
            examples.try_pipeline(facts.pipeline, inputs.dataset, found.document)
    return {**asdict(facts), "notes": notes}


def _own_data(model: AnyModel) -> dict[str, Any]:
    """The entry of the data set that the model's config names. Raises InputError."""
    from farm.sources.mmdet.data import evaluated

    if not isinstance(model, Model):
        raise InputError("it has no config that names a data set; name one in `dataset`")
    return evaluated.entry(model)


def _opened_as(entry: Mapping[str, Any], wanted: Dataset) -> Dataset:
    """The data set of an entry, without the digests that only later steps have in their keys."""
    limit = wanted.limit if isinstance(wanted, OtherDataset) else None
    values = {
        name: File(value, "") if isinstance(value, str) and os.path.isabs(value) else value
        for name, value in entry.items()
        if name != "type"
    }
    if entry["type"] == "coco":
        return CocoDataset(values["images"], values["annotations"], limit)
    return OtherDataset(entry["type"], tuple(sorted(values.items())), limit)


def _check_dataset(dataset: Dataset, facts: ModelFacts, masks: bool) -> Annotations:
    """Read the annotation file with notes; of a data set without one, the categories alone.

    masks: whether AP of masks will be computed. Raises InputError.
    """
    from farm.datasets import synthetic

    if isinstance(dataset, ShapesDataset | FolderDataset):
        categories = {"categories": [{"name": name} for name in synthetic.CLASSES]}
        coco.check_classes(categories, facts.classes, "the synthetic data set")
        return Annotations(categories, ())
    with tempfile.TemporaryDirectory() as scratch:
        folder, path = open_dataset(dataset, Path(scratch))
        where = str(path if isinstance(dataset, CocoDataset) else folder)
        return _check_files(path, folder, dataset.limit, facts, masks, where)


def _check_files(
    path: Path, folder: Path, limit: int | None, facts: ModelFacts, masks: bool, where: str
) -> Annotations:
    """Check an annotation file in COCO's format against the model, and its images.

    where: what messages name: of other forms, the file is made for this check alone.
    """
    from farm.datasets import image_files

    found = read_annotations(path, limit, facts.classes if masks else ())
    coco.check_classes(found.document, facts.classes, where)
    images = found.document["images"]
    image_files.require_images(images, folder)
    wrong = image_files.of_another_size(images, folder, _decoded_upright(facts.pipeline))
    if wrong and masks:
        raise InputError(f"masks do not fit their images: {_first(wrong)}", where)
    notes = [*found.notes, *([f"boxes may not fit: {_first(wrong)}"] if wrong else [])]
    return Annotations(found.document, tuple(f"{where}: {note}" for note in notes))


def _decoded_upright(pipeline: str) -> bool:
    """Whether OpenCV rotates images by their EXIF orientation, which a config can switch off."""
    return not any(f'"{kind}"' in pipeline for kind in ("unchanged", "color_ignore_orientation"))


def _first(found: list[str]) -> str:
    return f"{found[0]} ({len(found) - 1} more)" if len(found) > 1 else found[0]


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
