"""A few prepared images of a data set, on which `check` tries a model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.datasets import open_dataset
from farm.datasets.annotations import Document, Entry, load_annotations
from farm.errors import InputError
from farm.preprocess import NoImage, preparer
from farm.specs import CocoDataset, Dataset, Dims, OtherDataset, Shape, ShapesDataset

if TYPE_CHECKING:
    from farm.detections import ImageMeta

MOST = 8
"""Images that are tried; `prepare` meets all others."""

_USUAL = Dims(1, 3, 512, 512)
_LEAST, _LARGEST = Dims(1, 3, 1, 1), Dims(1, 3, 1 << 30, 1 << 30)


@dataclass(frozen=True)
class Examples:
    """A folder of images, and the annotations of all that are used or of a few that were drawn."""

    images: Path
    document: Document

    def prepared(
        self, entries: Iterable[Entry], pipeline: str, size: Dims | None = None
    ) -> Iterator[tuple[Any, ImageMeta]]:
        """Yield pixels [3, H, W] of these images of the document, at any size around `size`.

        Raises:
            NoImage: an image cannot be decoded.
            StepFailed: a transform fails on an image.
        """
        shape = Shape("tried", _LEAST, size or _USUAL, _LARGEST)
        prepare = preparer(pipeline, shape)
        for one in entries:
            name = one["file_name"]
            yield prepare(str(self.images / name), one["id"], name)


def opened(dataset: Dataset, document: Document, scratch: Path) -> Examples:
    """Open a data set.

    document: the annotations of a COCO data set; others are drawn or listed in `scratch`.
    """
    if isinstance(dataset, CocoDataset):
        return Examples(Path(dataset.images.path), document)
    if isinstance(dataset, ShapesDataset):
        dataset = replace(dataset, count=min(dataset.count, MOST))
    images, file = open_dataset(dataset, scratch)
    limit = dataset.limit if isinstance(dataset, OtherDataset) else None
    return Examples(images, load_annotations(file, limit))


def try_pipeline(pipeline: str, dataset: Dataset, document: Document) -> None:
    """Prepare the first images of a data set by a pipeline.

    pipeline: `ModelFacts.pipeline`. document: the data set's annotations, if it has a file.

    Raises:
        InputError: one of the images cannot be decoded.
        StepFailed: a transform cannot be made or fails on one of them; names it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        found = opened(dataset, document, Path(scratch))
        first = found.document["images"][:MOST]
        try:
            for _ in found.prepared(first, pipeline):
                pass
        except NoImage as error:
            raise InputError(str(error)) from error
