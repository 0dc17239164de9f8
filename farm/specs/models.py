"""Detectors: where they come from, and the facts that only their own code has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from farm.specs.keys import NOT_IN_KEY, OMITTED_AT_DEFAULT
from farm.specs.sizes import Sizes

Json = Any
Options = tuple[tuple[str, Json], ...]


@dataclass(frozen=True)
class File:
    """A file or folder of the user's. `digest` is the sha256 of what matters in it."""

    path: str = field(metadata=NOT_IN_KEY)
    digest: str


@dataclass(frozen=True)
class CachePath:
    """Where a runtime may keep a cache, which changes the speed of its work and not the result."""

    path: str = field(metadata=NOT_IN_KEY)


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
class Used:
    """One thing that a model was made of, beside the files that its matrix names.

    kind: one of `USED`, which describes `name` and `digest`. place: the path of the file, relative
    to the folder of the config or matrix, or absolute where they have no folder in common; for the
    kind `sought`, in which folders it was looked for.
    """

    kind: str
    name: str
    digest: str
    place: str = ""


USED = {
    "file": "a file that was opened",
    "module": "a Python module that is no part of a package with a version, by its name",
    "package": "an installed package, and its version",
    "variable": "an environment variable, and the digest of its value",
    "folder": "a folder that was listed, and the digest of the names in it, folders marked",
    "exists": "a path whose existence was tested: whether it exists, and a file's content",
    "link": "a path that was inspected without following a link: where the link leads",
    "import": "a module that was looked for in vain; the place is a folder, '' for Python's path",
    "current": "the current folder, by its place: something was looked for from there",
    "sought": "a file that the config names and the farm looked for in several folders",
    "config": "the config as mmcv merged it; compared by nothing, but part of later keys",
    "unfollowed": "a description of what was done whose outcome may change unnoticed",
}


@dataclass(frozen=True)
class ModelFacts:
    """What the stage `check` learns by running the model's own code, for the plan.

    `pipeline` is the text of a `specs.pipeline.Pipeline`, or the canonical JSON of a test pipeline
    that only MMDetection runs; two models with the same one share their prepared images.
    `clips_boxes`: whether it clips its boxes to the image (YOLOX does not). `mask_threshold`: the
    probability (or logit) from which a pixel is the object's. `mask_frame`: what the engine's masks
    span: each "box", or the whole input, in one of the ways of `detections.masks`: "image",
    "segments" and "queries", whose boxes are those around their masks.
    `refused` says why the model cannot be run here, if so; `host_refused` and `raw_refused` why
    its graph cannot end before the suppression, or at its raw outputs. `suppression` is the one
    that then runs on the host; None for a model without one.
    `input_shape` is what a ready model takes (None for a free axis), `opset` a ready file's own.
    `used`: what it was made of when these were found.
    `classes` are the names of label 0, 1, ...; `labels_from` says what gives them in this order.
    Where nothing does, `labels_doubt` says why, and whether the order is contradicted, too.
    `sizes` are the heights and widths that the network takes, None for any; `padded_to` those that
    the test pipeline can pad an image of a fixed shape to.
    """

    classes: tuple[str, ...]
    masks: bool
    pipeline: str
    clips_boxes: bool = True
    mask_threshold: float = 0.5
    mask_frame: str = "box"
    refused: str | None = None
    suppression: Suppression | None = None
    host_refused: str | None = None
    raw_refused: str | None = None
    input_shape: tuple[int | None, ...] | None = None
    opset: int | None = None
    used: tuple[Used, ...] = ()
    labels_from: str = ""
    labels_doubt: str = ""
    labels_contradicted: bool = False
    sizes: Sizes | None = None
    padded_to: Sizes | None = None
