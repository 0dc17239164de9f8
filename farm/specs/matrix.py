"""What a matrix names: models, data sets, shapes, targets, and the files that they are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NOT_IN_KEY = {"key": False}
OMITTED_AT_DEFAULT = {"default_in_key": False}
"""What a field of the inputs is to a step's key; see `farm.specs`."""

Json = Any
Options = tuple[tuple[str, Json], ...]


@dataclass(frozen=True)
class File:
    """A file or folder of the user's. `digest` is the sha256 of what matters in it.

    suffixes: of the files in the folder of a data set whose content matters; of all others their
    names and sizes do.
    """

    path: str = field(metadata=NOT_IN_KEY)
    digest: str
    suffixes: tuple[str, ...] = field(default=(), metadata=NOT_IN_KEY)


@dataclass(frozen=True)
class Model:
    """A detector: its source's config and weights, with `cfg_options` merged over the config.

    used: digest of what else it is made of, as `check` found it; see `Used`.
    """

    name: str = field(metadata=NOT_IN_KEY)
    source: str
    config: File
    checkpoint: File
    cfg_options: Options = ()
    allow_pickle: bool = field(default=False, metadata=NOT_IN_KEY)
    used: str = field(default="", metadata=OMITTED_AT_DEFAULT)


@dataclass(frozen=True)
class Preprocess:
    """How images are prepared where no config of mmdet's says it.

    Pixels are 0 to 255. to_rgb: channels in the order RGB, else BGR. mean, std: of the channels in
    that order; (pixel - mean) / std is what the network takes. keep_ratio: the image is resized to
    fit the shape, else to fill it. pad: height and width become multiples of it. pad_value: what
    the padding on the right and below holds, in all three channels, after mean and std.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    to_rgb: bool = True
    keep_ratio: bool = True
    pad: int | None = None
    pad_value: float = 0.0


@dataclass(frozen=True)
class OnnxModel:
    """A ready ONNX file.

    outputs: `detections` (dets, labels(, masks), as ours) or `raw`. clip_boxes: to the image, which
    the file itself cannot do, since it knows the padded size only.
    """

    name: str = field(metadata=NOT_IN_KEY)
    file: File
    outputs: str = "detections"
    classes: tuple[str, ...] = ()
    preprocess: Preprocess = Preprocess()
    clip_boxes: bool = field(default=True, metadata=OMITTED_AT_DEFAULT)
    source: str = "onnx"


@dataclass(frozen=True)
class ModuleModel:
    """A torch module that a function returns.

    function: `package.module:function`, found from the folder `root`; code: its file, with what
    that imports from `root`. options: the function's arguments. outputs, clip_boxes: as of
    `OnnxModel`. used: as of `Model`.
    """

    name: str = field(metadata=NOT_IN_KEY)
    function: str
    root: str = field(metadata=NOT_IN_KEY)
    code: File
    checkpoint: File | None = None
    options: Options = ()
    outputs: str = "detections"
    classes: tuple[str, ...] = ()
    preprocess: Preprocess = Preprocess()
    clip_boxes: bool = field(default=True, metadata=OMITTED_AT_DEFAULT)
    allow_pickle: bool = field(default=False, metadata=NOT_IN_KEY)
    source: str = "module"
    used: str = field(default="", metadata=OMITTED_AT_DEFAULT)


@dataclass(frozen=True)
class OtherModel:
    """A model of another package's source, by what the matrix says of it: files as `File`.

    root: the matrix's folder. outputs, clip_boxes: as of `OnnxModel`.
    """

    name: str = field(metadata=NOT_IN_KEY)
    source: str
    root: str = field(metadata=NOT_IN_KEY)
    options: Options = ()
    outputs: str = "detections"
    classes: tuple[str, ...] = ()
    preprocess: Preprocess = Preprocess()
    clip_boxes: bool = True


AnyModel = Model | OnnxModel | ModuleModel | OtherModel


@dataclass(frozen=True)
class Decay:
    """How, in soft-NMS, a picked box lowers the scores of those it overlaps; as mmcv's."""

    iou: float = 0.3
    sigma: float = 0.5
    min_score: float = 1e-3
    method: str = "linear"
    offset: int = 0


@dataclass(frozen=True)
class Suppression:
    """How boxes suppress one another (`iou` strictly over it), and how many an image keeps.

    decay: of the scores, for soft-NMS; None where boxes are dropped at once.
    """

    iou: float
    class_agnostic: bool
    keep: int
    decay: Decay | None = None


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


@dataclass(frozen=True, order=True)
class Dims:
    """The extent of an input batch: images x channels x height x width, in pixels."""

    n: int
    c: int
    h: int
    w: int

    def __str__(self) -> str:
        return f"{self.n}x{self.c}x{self.h}x{self.w}"

    def as_tuple(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, self.h, self.w)


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
class Target:
    """A kind of node that engines are built and measured on. `device`: its model of processor.

    Of a GPU, `device` is the name that its driver or Ray gives it, `compute_capability` is like
    `8.9`, and `driver` is the branch of NVIDIA's driver, like `580`.
    """

    name: str = field(metadata=NOT_IN_KEY)
    device: str
    accelerator: str | None = None
    compute_capability: str | None = field(default=None, metadata=OMITTED_AT_DEFAULT)
    driver: str | None = field(default=None, metadata=OMITTED_AT_DEFAULT)


@dataclass(frozen=True)
class Ref:
    """An artifact in the store, which one step writes and later ones read."""

    stage: str
    key: str
