"""Images: their data sets, and the shapes to which they are prepared."""

from __future__ import annotations

from dataclasses import dataclass, field

from farm.specs.keys import NOT_IN_KEY
from farm.specs.models import File, Options
from farm.units import Dims


@dataclass(frozen=True)
class Shape:
    """A shape profile. Fixed when min == opt == max: images are then letterboxed to opt."""

    name: str = field(metadata=NOT_IN_KEY)
    min: Dims
    opt: Dims
    max: Dims

    @property
    def dynamic(self) -> bool:
        return self.min != self.max

    @property
    def dynamic_batch(self) -> bool:
        return self.min.n != self.max.n

    @property
    def dynamic_size(self) -> bool:
        return (self.min.h, self.min.w) != (self.max.h, self.max.w)


@dataclass(frozen=True)
class CocoDataset:
    """Images and annotations in COCO's format; all images, or the first `limit`."""

    images: File
    annotations: File
    limit: int | None = None
    type: str = "coco"


@dataclass(frozen=True)
class ShapesDataset:
    """Images of coloured shapes, drawn by seed, with boxes and masks: they need no download."""

    count: int
    seed: int
    size: int
    type: str = "synthetic"


@dataclass(frozen=True)
class FolderDataset:
    """Images alone, the first `limit` by name: enough to calibrate with."""

    images: File
    limit: int | None = None
    type: str = "folder"


@dataclass(frozen=True)
class OtherDataset:
    """A data set of another package's type, by what the matrix says of it: files as `File`.

    limit: only the first so many images are used.
    """

    type: str
    options: Options
    limit: int | None = None


Dataset = CocoDataset | ShapesDataset | FolderDataset | OtherDataset
