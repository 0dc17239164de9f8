"""A model's test pipeline tried on the first images of a data set, before any heavy work."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

from farm.catalog import PREPARER
from farm.datasets import open_dataset
from farm.errors import InputError
from farm.inputs import Dataset, Shape, ShapesDataset
from farm.sources import source_module
from farm.units import Dims

MOST = 8
"""Images that are tried; `prepare` meets all others."""

_ANY_SIZE = Shape("tried", Dims(1, 3, 1, 1), Dims(1, 3, 512, 512), Dims(1, 3, 1 << 30, 1 << 30))


def try_pipeline(pipeline: str, dataset: Dataset) -> None:
    """pipeline: `ModelFacts.pipeline`.

    Raises:
        InputError: one of the images cannot be decoded.
        StepFailed: a transform cannot be made or fails on one of them; says which.
    """
    from farm.sources.mmdet.preparer import NoImage

    prepare = source_module(PREPARER).Preparer(pipeline, _ANY_SIZE)
    with tempfile.TemporaryDirectory() as scratch:
        for path in _first(dataset, Path(scratch)):
            try:
                prepare(str(path), 0, path.name)
            except NoImage as error:
                raise InputError(str(error)) from error


def _first(dataset: Dataset, scratch: Path) -> list[Path]:
    if isinstance(dataset, ShapesDataset):
        dataset = replace(dataset, count=1)  # all are of one kind
    folder, annotations = open_dataset(dataset, scratch)
    images = json.loads(annotations.read_text(encoding="utf-8-sig"))["images"][:MOST]
    return [folder / image["file_name"] for image in images]
