"""Data sets in COCO's format: found or drawn, and the average precision over them."""

from __future__ import annotations

from pathlib import Path

from farm import inputs


def open_dataset(dataset: inputs.Dataset, folder: Path) -> tuple[Path, Path]:
    """The image folder and annotation file; what has to be drawn is drawn into `folder`."""
    if isinstance(dataset, inputs.ShapesDataset):
        from farm.datasets import shapes

        shapes.draw(folder, dataset.count, dataset.seed, dataset.size)
        return folder / "images", folder / "annotations.json"
    if isinstance(dataset, inputs.FolderDataset):
        from farm.datasets import folder as images

        images.describe(Path(dataset.images.path), dataset.limit, folder / "annotations.json")
        return Path(dataset.images.path), folder / "annotations.json"
    return Path(dataset.images.path), Path(dataset.annotations.path)
