"""check: what only the model's own code can tell, and everything wrong with the user's files.

Runs before any heavy work: loads config and checkpoint, fits one to the other, and holds the
model's classes against those of the data set and of the images that int8's `auto` measures AP on.
The test pipeline is tried on the first images.
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
    """The model's facts, and `notes`: what is odd in the data sets' files, a sentence each."""
    source = SOURCES[inputs.model.source].adapter()
    getattr(source, "Detector", None)  # its own packages are imported before: they are no model's
    with watching(inputs.model, context.folder / dependencies.FILE):
        facts = source.check(inputs.model)
    found = _check_dataset(inputs.dataset, facts, facts.masks) if inputs.dataset else None
    notes = list(found.notes) if found else []
    if inputs.calibration is not None:
        notes += _check_dataset(inputs.calibration, facts, masks=False).notes
    if inputs.dataset and found:
        facts = labels.known(facts, inputs, found.document)
        if facts.pipeline:
            examples.try_pipeline(facts.pipeline, inputs.dataset, found.document)
    return {**asdict(facts), "notes": notes}


def _check_dataset(dataset: Dataset, facts: ModelFacts, masks: bool) -> Annotations:
    """What its file holds, with notes; of one without a file the categories alone.

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
    """Whether images are turned as their EXIF says: OpenCV does, unless a config says otherwise."""
    return not any(f'"{word}"' in pipeline for word in ("unchanged", "color_ignore_orientation"))


def _first(found: list[str]) -> str:
    return f"{found[0]} ({len(found) - 1} more)" if len(found) > 1 else found[0]
