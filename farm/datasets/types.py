"""The farm's own types of data sets: COCO's files, synthetic images, and a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from farm.datasets.base import DatasetType
from farm.options import StrictModel, Text, Whole

if TYPE_CHECKING:
    from farm import specs


class CocoSpec(StrictModel):
    """A data set of images with an annotation file in COCO's format."""

    type: Literal["coco"]
    images: Text
    annotations: Text
    limit: Annotated[Whole, Field(ge=1, lt=2**63)] | None = None


class SyntheticSpec(StrictModel):
    """Drawn images with exact annotations."""

    type: Literal["synthetic"]
    count: Annotated[Whole, Field(ge=1, le=100_000)] = 64
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = 7
    size: Annotated[Whole, Field(ge=64, le=4096)] = 160


class _Coco:
    def open_dataset(self, dataset: specs.CocoDataset, folder: Path) -> tuple[Path, Path]:
        return Path(dataset.images.path), Path(dataset.annotations.path)


class _Synthetic:
    def open_dataset(self, dataset: specs.ShapesDataset, folder: Path) -> tuple[Path, Path]:
        from farm.datasets import synthetic

        synthetic.draw(folder, dataset.count, dataset.seed, dataset.size)
        return folder / "images", folder / "annotations.json"


class _Folder:
    def open_dataset(self, dataset: specs.FolderDataset, folder: Path) -> tuple[Path, Path]:
        from farm.datasets import image_files

        annotations = folder / "annotations.json"
        image_files.describe(Path(dataset.images.path), dataset.limit, annotations)
        return Path(dataset.images.path), annotations


COCO = DatasetType(name="coco", adapter=_Coco, spec=CocoSpec)
SYNTHETIC = DatasetType(name="synthetic", adapter=_Synthetic, spec=SyntheticSpec)
FOLDER = DatasetType(name="folder", adapter=_Folder)
