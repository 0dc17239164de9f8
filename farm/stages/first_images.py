"""A model's test pipeline tried on the first images of a data set, before any heavy work."""

from __future__ import annotations

import tempfile
from pathlib import Path

from farm.datasets.annotations import Document
from farm.errors import InputError
from farm.inputs import Dataset
from farm.stages import examples


def try_pipeline(pipeline: str, dataset: Dataset, document: Document) -> None:
    """pipeline: `ModelFacts.pipeline`. document: the data set's annotations, if it has a file.

    Raises:
        InputError: one of the images cannot be decoded.
        StepFailed: a transform cannot be made or fails on one of them; says which.
    """
    from farm.sources.mmdet.preparer import NoImage

    with tempfile.TemporaryDirectory() as scratch:
        found = examples.opened(dataset, document, Path(scratch))
        first = found.document["images"][: examples.MOST]
        try:
            for _ in found.prepared(first, pipeline):
                pass
        except NoImage as error:
            raise InputError(str(error)) from error
