"""Data sets in COCO's format: read, drawn, or opened by other packages; and AP over them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm import specs


def open_dataset(dataset: specs.Dataset, folder: Path) -> tuple[Path, Path]:
    """Return the image folder and annotation file; what has to be written goes into `folder`.

    Raises:
        InputError: the data set has no images, or cannot be opened.
    """
    from farm.catalog import DATASETS

    return DATASETS[dataset.type].adapter().open_dataset(dataset, folder)
