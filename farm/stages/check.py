"""check: what only the model's own code can tell, and everything wrong with the user's files.

Runs before any heavy work: loads config and checkpoint, fits one to the other, and holds the
model's classes against those of the data set and of the images that int8's `auto` measures AP on.
The test pipeline is tried on the first images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from farm.inputs import CheckInputs, CocoDataset, Dataset
from farm.sources import source_module
from farm.stages import Context, first_images


def run(inputs: CheckInputs, context: Context) -> Mapping[str, Any]:
    facts = source_module(inputs.model.source).check(inputs.model)
    _check_dataset(inputs.dataset, facts.classes)
    if inputs.calibration is not None:
        _check_dataset(inputs.calibration, facts.classes)
    if facts.pipeline:
        first_images.try_pipeline(facts.pipeline, inputs.dataset)
    return asdict(facts)


def _check_dataset(dataset: Dataset, classes: tuple[str, ...]) -> None:
    from farm.datasets import coco, shapes

    if isinstance(dataset, CocoDataset):
        path = Path(dataset.annotations.path)
        annotations = coco.load_annotations(path, dataset.limit)
        coco.check_classes(annotations, classes, str(path))
        coco.check_images(annotations, Path(dataset.images.path))
    else:
        categories = {"categories": [{"name": name} for name in shapes.CLASSES]}
        coco.check_classes(categories, classes, "dataset shapes")
