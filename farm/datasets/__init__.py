"""Data sets in COCO's format: found or drawn, and the average precision over them."""

from __future__ import annotations

from pathlib import Path

from farm import specs


def open_dataset(dataset: specs.Dataset, folder: Path) -> tuple[Path, Path]:
    """The image folder and annotation file; what has to be drawn is drawn into `folder`."""
    if isinstance(dataset, specs.ShapesDataset):
        from farm.datasets import synthetic

        synthetic.draw(folder, dataset.count, dataset.seed, dataset.size)
        return folder / "images", folder / "annotations.json"
    if isinstance(dataset, specs.FolderDataset):
        from farm.datasets import image_files as images

        images.describe(Path(dataset.images.path), dataset.limit, folder / "annotations.json")
        return Path(dataset.images.path), folder / "annotations.json"
    return Path(dataset.images.path), Path(dataset.annotations.path)
