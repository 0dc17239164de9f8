"""A few images of a data set, prepared as a model takes them: what `check` tries a model on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from farm import catalog
from farm.datasets import open_dataset
from farm.datasets.annotations import Document, Entry, load_annotations
from farm.detections import ImageMeta
from farm.inputs import CocoDataset, Dataset, Shape, ShapesDataset
from farm.sources import source_module
from farm.units import Dims

MOST = 8
"""Images that are tried; `prepare` meets all others."""

_USUAL = Dims(1, 3, 512, 512)
_LEAST, _LARGEST = Dims(1, 3, 1, 1), Dims(1, 3, 1 << 30, 1 << 30)


@dataclass(frozen=True)
class Examples:
    """images: their folder. document: of all images that are used, or of a few that were drawn."""

    images: Path
    document: Document

    def prepared(
        self, entries: Iterable[Entry], pipeline: str, size: Dims | None = None
    ) -> Iterator[tuple[Any, ImageMeta]]:
        """Pixels [3, H, W] of these images of the document, at any size around `size`.

        Raises StepFailed, where an image cannot be decoded its subclass `NoImage`.
        """
        shape = Shape("tried", _LEAST, size or _USUAL, _LARGEST)
        prepare = source_module(catalog.PREPARER).Preparer(pipeline, shape)
        for one in entries:
            name = one["file_name"]
            yield prepare(str(self.images / name), one["id"], name)


def opened(dataset: Dataset, document: Document, scratch: Path) -> Examples:
    """document: what `check` read of a COCO data set; others are drawn or listed in `scratch`."""
    if isinstance(dataset, CocoDataset):
        return Examples(Path(dataset.images.path), document)
    if isinstance(dataset, ShapesDataset):
        dataset = replace(dataset, count=min(dataset.count, MOST))
    images, file = open_dataset(dataset, scratch)
    return Examples(images, load_annotations(file))
