"""The farm's own types of data sets: COCO's files, synthetic images, and a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from farm.datasets.base import DatasetAdapter, DatasetType
from farm.options import (
    DataFolder,
    DatasetOptions,
    ImageFolder,
    InputFile,
    StrictModel,
    Text,
    Texts,
    Whole,
)

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


class VocSpec(DatasetOptions):
    """A folder with an XML file for each image, as of Pascal VOC.

    root: the folder. images, annotations: folders in it. split: `test` for the images that
    `ImageSets/Main/test.txt` lists, or the path of a list in the folder; all by default. classes:
    of the data set, where the files do not have them all. map: how mAP is computed; by default of
    11 points where the path has `VOC2007`, as MMDetection does. inclusive: whether a box ends with
    its last pixel, as Pascal VOC's do, so that its width is xmax - xmin + 1.
    """

    type: Literal["voc"]
    root: Annotated[Text, DataFolder((".xml", ".txt"))]
    images: Text = "JPEGImages"
    annotations: Text = "Annotations"
    split: Text | None = None
    classes: Texts | None = None
    map: Literal["area", "11-point"] | None = None
    inclusive: bool = True


class CustomSpec(DatasetOptions):
    """A list of images with their boxes in a file, as MMDetection's `CustomDataset` reads it.

    classes: of label 0, 1, ...
    """

    type: Literal["custom"]
    images: Annotated[Text, ImageFolder()]
    annotations: Annotated[Text, InputFile("annotation file")]
    classes: Texts


class ConfigSpec(DatasetOptions):
    """The data set that each model's own config names in `data.test`."""

    type: Literal["config"]


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


def _voc() -> DatasetAdapter:
    from farm.datasets import voc

    return voc


def _custom() -> DatasetAdapter:
    from farm.datasets import custom

    return custom


class _Config:
    def open_dataset(self, dataset: specs.OtherDataset, folder: Path) -> tuple[Path, Path]:
        raise AssertionError("`check` finds which data set it is")


COCO = DatasetType(name="coco", adapter=_Coco, spec=CocoSpec)
SYNTHETIC = DatasetType(name="synthetic", adapter=_Synthetic, spec=SyntheticSpec)
VOC = DatasetType(name="voc", adapter=_voc, spec=VocSpec)
CUSTOM = DatasetType(name="custom", adapter=_custom, spec=CustomSpec)
CONFIG = DatasetType(name="config", adapter=_Config, spec=ConfigSpec)
FOLDER = DatasetType(name="folder", adapter=_Folder)
