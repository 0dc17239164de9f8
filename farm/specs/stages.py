"""What the stages before an engine receive, which make the files that engines are built from."""

from __future__ import annotations

from dataclasses import dataclass, field

from farm.specs.matrix import (
    OMITTED_AT_DEFAULT,
    AnyModel,
    CocoDataset,
    Dataset,
    Dims,
    Model,
    Ref,
    Shape,
    Suppression,
)
from farm.specs.sizes import Sizes


@dataclass(frozen=True)
class CheckInputs:
    """`calibration`: annotated images by which int8's `auto` measures AP.

    `dataset`: None where only the model is checked. `used`: digests of the state of what the model
    was made of in earlier checks, one for each time that it had changed. `labels`: the classes in
    the order of the model's labels, where the matrix has them.
    """

    model: AnyModel
    dataset: Dataset | None
    calibration: CocoDataset | None = field(default=None, metadata=OMITTED_AT_DEFAULT)
    used: tuple[str, ...] = field(default=(), metadata=OMITTED_AT_DEFAULT)
    labels: tuple[str, ...] = field(default=(), metadata=OMITTED_AT_DEFAULT)


@dataclass(frozen=True)
class PrepareInputs:
    """`sizes`: those that the network takes, where images of a dynamic shape can have others."""

    pipeline: str
    shape: Shape
    dataset: Dataset
    sizes: Sizes | None = field(default=None, metadata=OMITTED_AT_DEFAULT)


@dataclass(frozen=True)
class ReferenceInputs:
    """`images` of the prepared images are also run as an exported graph would see them.

    `raw_batch`: only its raw outputs are recorded, from batches of so many images.
    `classes`: of its labels, as `ModelFacts` has them.
    """

    model: AnyModel
    prepared: Ref
    images: int
    raw_batch: int | None = field(default=None, metadata=OMITTED_AT_DEFAULT)
    classes: tuple[str, ...] = field(default=(), metadata=OMITTED_AT_DEFAULT)


@dataclass(frozen=True)
class ExportInputs:
    """`postprocess`: where the graph ends, see `catalog.POSTPROCESS`. No opset: the file's own."""

    model: AnyModel
    shape: Shape
    opset: int | None
    postprocess: str = field(default="graph", metadata=OMITTED_AT_DEFAULT)
    simplify: bool = field(default=False, metadata=OMITTED_AT_DEFAULT)


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
    """How int8 finds its scales: see `precision.quantised`. `batch`: images per run."""

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
    int8: Quantisation | None = field(default=None, metadata=OMITTED_AT_DEFAULT)


@dataclass(frozen=True)
class ConfigInputs:
    """Of the table of models: a config that is read and built, without weights."""

    model: Model


@dataclass(frozen=True)
class RandomModelInputs:
    """Of the table of models: a model whose checkpoint the stage writes.

    `layer_outputs`: mean and spread of the outputs of prediction layers, by a part of the layer's
    name; the first that fits counts. `shape`: the traced one. `sizes`: the batches of images that
    the model answers itself, among them two of `shape`. `seed`: of weights and images.
    """

    model: Model
    layer_outputs: tuple[tuple[str, tuple[float, float]], ...]
    shape: Dims
    sizes: tuple[Dims, ...]
    seed: int
