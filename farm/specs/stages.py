"""What each stage receives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from farm.specs.cells import CocoDataset, Dataset, Engine, EngineOptions, Ref, Shape, Target
from farm.specs.environments import Environment
from farm.specs.models import NOT_IN_KEY, OMITTED_AT_DEFAULT, AnyModel, Model, Suppression
from farm.specs.sizes import Sizes
from farm.units import Dims


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
class BuildInputs:
    """`exported`: the ONNX file, as exported or converted."""

    exported: Ref
    options: EngineOptions
    target: Target


@dataclass(frozen=True)
class VerifyInputs:
    """`classes`: how many the model has, which bounds its labels; 0 where that is not known."""

    engine: Engine
    prepared: Ref
    reference: Ref
    classes: int
    mask_threshold: float
    mask_frame: str
    target: Target


@dataclass(frozen=True)
class EvaluateInputs:
    """`reference`: on the same images, for the interval of the drop of AP.

    `max_ap_drop`: stop once more is lost for sure, in AP points of 100.
    """

    engine: Engine
    prepared: Ref
    reference: Ref
    classes: tuple[str, ...]
    clip: bool
    mask_threshold: float
    mask_frame: str
    target: Target
    max_ap_drop: float | None = field(default=None, metadata=OMITTED_AT_DEFAULT)


@dataclass(frozen=True)
class MeasureInputs:
    """`throughput_seconds`: how long to look for the best load; None: as long as latency takes,
    0: not at all. `server_p99_ms`: the bound of the mode `server`, None without it;
    `server_seconds`: how long to look for the rate that holds it."""

    engine: Engine
    prepared: Ref
    target: Target
    seconds: float
    max_seconds: float
    warmup_seconds: float
    min_samples: int
    threads: int
    throughput_seconds: float | None = None
    server_p99_ms: float | None = None
    server_seconds: float = 0.0


@dataclass(frozen=True)
class Entrant:
    """An engine among those that are compared.

    id: the key of its `measure`. baseline: the id of the same cell in fp32, if that is compared
    too. name: of its cell. environment: where it runs, if that is not the step's own environment;
    the versions of its packages are in the id.
    """

    id: str
    engine: Engine
    prepared: Ref
    baseline: str | None
    name: str = field(metadata=NOT_IN_KEY)
    environment: Environment | None = field(default=None, metadata=NOT_IN_KEY)


@dataclass(frozen=True)
class CompareInputs:
    """`entrants`: the fastest by its `measure` first. `seconds`: the budget for all together.

    `margin`, `error`: see `ranking.rounds.Rules`.
    """

    entrants: tuple[Entrant, ...]
    target: Target
    threads: int
    seconds: float
    margin: float
    error: float


@dataclass(frozen=True)
class ExtraInputs:
    """Of a stage that another package adds."""

    engine: Engine
    prepared: Ref
    target: Target


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


@dataclass(frozen=True)
class TrialInputs:
    """Of the table of models: an engine that runs the batches `sizes` of the random model."""

    engine: Engine
    reference: Ref
    sizes: tuple[Dims, ...]
    classes: int
    mask_threshold: float
    mask_frame: str
    target: Target


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
    | CompareInputs
    | ExtraInputs
    | ConfigInputs
    | RandomModelInputs
    | TrialInputs
)

EngineInputs = VerifyInputs | EvaluateInputs | MeasureInputs | ExtraInputs | TrialInputs
"""Of the stages that run an engine."""


def refs_of(value: Any) -> Iterator[Ref]:
    """Yield the artifacts that frozen inputs name: those that a step reads."""
    if isinstance(value, Ref):
        yield value
    elif is_dataclass(value):
        for one in fields(value):
            yield from refs_of(getattr(value, one.name))
    elif isinstance(value, tuple):
        for one in value:
            yield from refs_of(one)
