"""The frozen inputs of the stages: what the plan hands to an executor and a stage receives.

A field marked `key=False` says where something lies or what it is called; it never decides
what a step produces, so it is not part of the step's key. One marked `default_in_key=False` is
part of it only where it says something else than its default: work done before the field was
there keeps its key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from farm.units import Dims

Json = Any


_NOT_IN_KEY = {"key": False}
_LATER = {"default_in_key": False}


@dataclass(frozen=True)
class File:
    """A file or folder of the user's. `digest` is the sha256 of what matters in it."""

    path: str = field(metadata=_NOT_IN_KEY)
    digest: str


@dataclass(frozen=True)
class Place:
    """Where a runtime may keep what makes its work faster, and never other."""

    path: str = field(metadata=_NOT_IN_KEY)


@dataclass(frozen=True)
class Model:
    """A detector: its source's config and weights, with `cfg_options` merged over the config."""

    name: str = field(metadata=_NOT_IN_KEY)
    source: str
    config: File
    checkpoint: File
    cfg_options: tuple[tuple[str, Json], ...] = ()
    allow_pickle: bool = field(default=False, metadata=_NOT_IN_KEY)


@dataclass(frozen=True)
class Preprocess:
    """How images are prepared where no config of mmdet's says it.

    mean, std: of the channels as the network takes them, 0 to 255. pad: height and width become
    multiples of it, with pad_value (normalised already).
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    to_rgb: bool = True
    keep_ratio: bool = True
    pad: int | None = None
    pad_value: float = 0.0


@dataclass(frozen=True)
class OnnxModel:
    """A ready ONNX file. outputs: `detections` (dets, labels(, masks), as ours) or `raw`."""

    name: str = field(metadata=_NOT_IN_KEY)
    file: File
    outputs: str = "detections"
    classes: tuple[str, ...] = ()
    preprocess: Preprocess = Preprocess()
    source: str = "onnx"


@dataclass(frozen=True)
class ModuleModel:
    """A torch module that a function returns.

    function: `package.module:function`, found from the folder `root`; code: its file, with what
    that imports from `root`. options: the function's arguments. outputs: as of `OnnxModel`.
    """

    name: str = field(metadata=_NOT_IN_KEY)
    function: str
    root: str = field(metadata=_NOT_IN_KEY)
    code: File
    checkpoint: File | None = None
    options: tuple[tuple[str, Json], ...] = ()
    outputs: str = "detections"
    classes: tuple[str, ...] = ()
    preprocess: Preprocess = Preprocess()
    allow_pickle: bool = field(default=False, metadata=_NOT_IN_KEY)
    source: str = "module"


Options = tuple[tuple[str, Json], ...]

AnyModel = Model | OnnxModel | ModuleModel


@dataclass(frozen=True)
class Shape:
    """A shape profile. Fixed when min == opt == max: images are then letterboxed to opt."""

    name: str = field(metadata=_NOT_IN_KEY)
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
    """Images and annotations in COCO's format; the first `limit` images where it is given."""

    images: File
    annotations: File
    limit: int | None = None
    type: str = "coco"


@dataclass(frozen=True)
class ShapesDataset:
    """Coloured shapes drawn by seed, with boxes and masks: a data set that needs no download."""

    count: int
    seed: int
    size: int
    type: str = "shapes"


@dataclass(frozen=True)
class FolderDataset:
    """Images alone, the first `limit` by name: enough to calibrate with."""

    images: File
    limit: int | None = None
    type: str = "folder"


Dataset = CocoDataset | ShapesDataset | FolderDataset


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
class ModelFacts:
    """What only the model's own code can tell: stage `check` finds it, the plan uses it.

    `pipeline` is the canonical JSON of the config's test pipeline; two models with the same
    one share their prepared images. `clips_boxes`: whether it clips its boxes to the image
    (YOLOX does not). `mask_threshold`: the probability (or logit) from which a pixel is the
    object's. `mask_frame`: what the engine's masks span: each "box", or the whole input, in one
    of the ways of `detections.whole`: "image", "segments" and "queries", whose boxes are those
    around their masks.
    `refused` says why the model cannot be run here, if so; `host_refused` and `raw_refused` why
    its graph cannot end before the suppression, or at its raw outputs. `suppression` is the one
    that then runs on the host; None for a model without one, whose graph is whole without it.
    `input_shape` is what a ready model takes (None for a free axis), `opset` a ready file's own.
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


@dataclass(frozen=True)
class EngineOptions:
    """How a runtime builds and runs a model: everything of it that changes the engine.

    `compute_capability` (`8.9`): what an engine is built for where the GPU itself is not there.
    """

    runtime: str
    precision: str
    shape: Shape
    workspace_bytes: int | None = None
    options: Options = ()
    compute_capability: str | None = field(default=None, metadata=_LATER)


@dataclass(frozen=True)
class Target:
    """A kind of node to pick an engine for. `device` names the processor model it stands for.

    Of a GPU: as its driver names it, or as Ray does; `compute_capability` is `8.9`, `driver` the
    branch of NVIDIA's driver, `580`.
    """

    name: str = field(metadata=_NOT_IN_KEY)
    device: str
    accelerator: str | None = None
    compute_capability: str | None = field(default=None, metadata=_LATER)
    driver: str | None = field(default=None, metadata=_LATER)


@dataclass(frozen=True)
class Ref:
    """An artifact in the store: what one step left for the next."""

    stage: str
    key: str


@dataclass(frozen=True)
class Engine:
    """What verify, evaluate and measure open: a built engine, or for `torch` the model itself.

    `postprocess`: where its graph ends; for `host`, `suppression` is what runs after it.
    """

    options: EngineOptions
    built: Ref | None
    model: AnyModel | None
    postprocess: str = field(default="graph", metadata=_LATER)
    suppression: Suppression | None = field(default=None, metadata=_LATER)


@dataclass(frozen=True)
class CheckInputs:
    """`calibration`: annotated images by which int8's `auto` measures AP."""

    model: AnyModel
    dataset: Dataset
    calibration: CocoDataset | None = field(default=None, metadata=_LATER)


@dataclass(frozen=True)
class PrepareInputs:
    pipeline: str
    source: str
    shape: Shape
    dataset: Dataset


@dataclass(frozen=True)
class ReferenceInputs:
    """`images` of the prepared images are also run as an exported graph would see them.

    `raw_batch`: only its raw outputs are wanted, from batches of so many images.
    """

    model: AnyModel
    prepared: Ref
    images: int
    raw_batch: int | None = field(default=None, metadata=_LATER)


@dataclass(frozen=True)
class ExportInputs:
    """`postprocess`: where the graph ends, see `catalog.POSTPROCESS`. No opset: the file's own."""

    model: AnyModel
    shape: Shape
    opset: int | None
    postprocess: str = field(default="graph", metadata=_LATER)
    simplify: bool = field(default=False, metadata=_LATER)


@dataclass(frozen=True)
class Auto:
    """Keep the layers that int8 harms most in fp32, until no more than `max_ap_drop` is lost.

    In AP points of 100, on the calibration images: COCO's box AP where they are annotated;
    where not, box AP50 with the fp32 file's own boxes of `min_score` as the truth.
    `images`: over how many of them layers are ranked.
    """

    max_ap_drop: float
    min_score: float
    images: int
    annotated: bool
    classes: tuple[str, ...]
    clip: bool
    suppression: Suppression | None = None


@dataclass(frozen=True)
class Quantisation:
    """How int8 finds its scales: see `precision.calibrate`. `batch`: images per run."""

    calibration: Ref
    method: str
    percentile: float
    batch: int
    auto: Auto | None = None


@dataclass(frozen=True)
class ConvertInputs:
    """`keep`: names of layers that stay in fp32, with the shell's `*` and `?`."""

    exported: Ref
    precision: str
    keep: tuple[str, ...] = ()
    int8: Quantisation | None = field(default=None, metadata=_LATER)


@dataclass(frozen=True)
class BuildInputs:
    """`exported`: the ONNX file, as exported or converted."""

    exported: Ref
    options: EngineOptions
    target: Target


@dataclass(frozen=True)
class VerifyInputs:
    engine: Engine
    prepared: Ref
    reference: Ref
    mask_threshold: float
    mask_frame: str
    target: Target


@dataclass(frozen=True)
class EvaluateInputs:
    engine: Engine
    prepared: Ref
    classes: tuple[str, ...]
    clip: bool
    mask_threshold: float
    mask_frame: str
    target: Target


@dataclass(frozen=True)
class MeasureInputs:
    engine: Engine
    prepared: Ref
    target: Target
    seconds: float
    max_seconds: float
    warmup_seconds: float
    min_samples: int
    threads: int


StageInputs = (
    CheckInputs
    | PrepareInputs
    | ReferenceInputs
    | ExportInputs
    | ConvertInputs
    | BuildInputs
    | VerifyInputs
    | EvaluateInputs
    | MeasureInputs
)
