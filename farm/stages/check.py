"""check: find the facts that only the model's own code knows, and everything wrong with the files.

It runs before any heavy work: it loads config and checkpoint, checks that they belong together, and
compares the model's classes with those of the data set and of the images on which int8's `auto`
measures AP. It tries the test pipeline on the first images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from farm.catalog import SOURCES
from farm.datasets import open_dataset
from farm.datasets.annotations import Annotations, read_annotations
from farm.errors import InputError
from farm.plan import dependencies
from farm.sources.watch import watching
from farm.specs import CheckInputs, Dataset, FolderDataset, ModelFacts, ShapesDataset
from farm.stages import Context, examples, labels


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
    found = _check_dataset(inputs.dataset, facts, facts.masks) if inputs.dataset else None
    notes = list(found.notes) if found else []
    if inputs.calibration is not None:
        notes += _check_dataset(inputs.calibration, facts, masks=False).notes
    if inputs.dataset and found:
        facts = labels.with_label_order(facts, inputs, found.document)
        if facts.pipeline:
            examples.try_pipeline(facts.pipeline, inputs.dataset, found.document)
    return {**asdict(facts), "notes": notes}


def _check_dataset(dataset: Dataset, facts: ModelFacts, masks: bool) -> Annotations:
    """Read the annotation file with notes; of a data set without one, the categories alone.

    masks: whether AP of masks will be computed. Raises InputError.
    """
    from farm.datasets import coco, synthetic

    if isinstance(dataset, ShapesDataset | FolderDataset):
        categories = {"categories": [{"name": name} for name in synthetic.CLASSES]}
        coco.check_classes(categories, facts.classes, "the synthetic data set")
        return Annotations(categories, ())
    with tempfile.TemporaryDirectory() as scratch:
        folder, path = open_dataset(dataset, Path(scratch))
        return _check_files(path, folder, dataset.limit, facts, masks)


def _check_files(
    path: Path, folder: Path, limit: int | None, facts: ModelFacts, masks: bool
) -> Annotations:
    """Check an annotation file in COCO's format against the model, and its images."""
    from farm.datasets import coco, image_files

    found = read_annotations(path, limit, facts.classes if masks else ())
    coco.check_classes(found.document, facts.classes, str(path))
    images = found.document["images"]
    image_files.require_images(images, folder)
    wrong = image_files.of_another_size(images, folder, _decoded_upright(facts.pipeline))
    if wrong and masks:
        raise InputError(f"masks do not fit their images: {_first(wrong)}", str(path))
    notes = [*found.notes, *([f"boxes may not fit: {_first(wrong)}"] if wrong else [])]
    return Annotations(found.document, tuple(f"{path}: {note}" for note in notes))


def _decoded_upright(pipeline: str) -> bool:
    """Whether OpenCV rotates images by their EXIF orientation, which a config can switch off."""
    return not any(f'"{kind}"' in pipeline for kind in ("unchanged", "color_ignore_orientation"))


def _first(found: list[str]) -> str:
    return f"{found[0]} ({len(found) - 1} more)" if len(found) > 1 else found[0]
