"""check: find the facts that only the model's own code knows, and everything wrong with the files.

It runs before any heavy work: it loads config and checkpoint, checks that they belong together, and
compares the model's classes with those of the data set and of the images on which int8's `auto`
measures AP: files or matrix must say which class each label is. It tries the test pipeline on the
first images.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.catalog import SOURCES
from farm.datasets import coco, open_dataset
from farm.datasets.annotations import Annotations, read_annotations
from farm.errors import InputError
from farm.plan.content import dependencies
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
from farm.stages.check.labels import with_label_order

if TYPE_CHECKING:
    from farm.parts import SourceAdapter
    from farm.stages import Context

log = logging.getLogger(__name__)


def run(inputs: CheckInputs, context: Context) -> Mapping[str, Any]:
    """Return the model's facts, and `notes`: what is odd in the data sets, a sentence each.

    Raises:
        InputError: a file of the user's is wrong.
        StepFailed: the model cannot be loaded, or its pipeline fails on an image.
    """
    source = SOURCES[inputs.model.source].adapter()
    _import_packages(source)
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


def _import_packages(source: SourceAdapter) -> None:
    """Import what loading a model needs before its code is watched, under which that takes long."""
    getattr(source, "Detector", None)
    if "torch" in sys.modules:
        import torch._dynamo  # noqa: F401  # imported when shapes are computed without values


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
