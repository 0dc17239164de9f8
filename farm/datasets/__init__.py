"""Data sets in COCO's format: found, drawn or made by other packages; and AP over them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm import specs


def open_dataset(dataset: specs.Dataset, folder: Path) -> tuple[Path, Path]:
    """Return the image folder and annotation file; what has to be written goes into `folder`."""
    from farm.catalog import DATASETS

    return DATASETS[dataset.type].adapter().open_dataset(dataset, folder)
