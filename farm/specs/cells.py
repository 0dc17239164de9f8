"""Cells, and what they are made of: data sets, shapes, targets, engines and tolerances."""

from __future__ import annotations

from dataclasses import dataclass, field

from farm.specs.models import (
    NOT_IN_KEY,
    OMITTED_AT_DEFAULT,
    AnyModel,
    File,
    Options,
    Suppression,
)
from farm.units import Dims, format_bytes


@dataclass(frozen=True)
class Cell:
    """One combination. An axis that its runtime does not have is None."""

    model: str
    opset: int | None
    shape: str
    postprocess: str
    precision: str
    runtime: str
    workspace_bytes: int | None
    target: str

    @property
    def id(self) -> str:
        """The name of the cell in tables and options: `ssd.op17.fixed.fp32.onnxruntime.cpu`."""
        opset = f"op{self.opset}" if self.opset is not None else None
        workspace = f"ws{format_bytes(self.workspace_bytes)}" if self.workspace_bytes else None
        cut = self.postprocess if self.postprocess != "graph" else None
        parts = [self.model, opset, self.shape, cut, self.precision, self.runtime, workspace]
        return ".".join([part for part in parts if part] + [self.target])


@dataclass(frozen=True)
class Tolerance:
    """How far an engine's answers may be from the reference's.

    min_score: boxes that one side scores at least so are compared. min_iou: from which two boxes
    are a match. min_matched_fraction: of the boxes compared. max_score_diff, max_box_diff_px,
    min_mask_iou: of every match; min_mean_mask_iou: of the matches' masks on average.
    max_rel_diff: of raw outputs, the largest difference over the tensor's largest value.
    per_box: a match beyond a limit counts as none, where otherwise it makes another detector.
    """

    min_score: float = 0.3
    min_iou: float = 0.9
    min_matched_fraction: float = 0.99
    max_score_diff: float = 1e-3
    max_box_diff_px: float = 1.0
    min_mask_iou: float = 0.9
    min_mean_mask_iou: float = 0.0
    max_rel_diff: float = 1e-3
    per_box: bool = False


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
    compute_capability: str | None = field(default=None, metadata=OMITTED_AT_DEFAULT)


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


@dataclass(frozen=True)
class Engine:
    """What verify, evaluate and measure open: a built engine, or for `torch` the model itself.

    `postprocess`: where its graph ends; for `host`, `suppression` is what runs after it.
    """

    options: EngineOptions
    built: Ref | None
    model: AnyModel | None
    postprocess: str = field(default="graph", metadata=OMITTED_AT_DEFAULT)
    suppression: Suppression | None = field(default=None, metadata=OMITTED_AT_DEFAULT)


@dataclass(frozen=True)
class Gpu:
    """One GPU: `NVIDIA H200`, compute capability `9.0`, driver `580.95.05`.

    memory_bytes: 0 where it was not looked for.
    """

    name: str
    compute_capability: str
    driver: str
    memory_bytes: int = 0

    @property
    def branch(self) -> str:
        """The driver's branch: NVIDIA keeps engines compatible within one, and numbers it so."""
        return self.driver.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.name} ({self.compute_capability}, driver {self.branch})"
