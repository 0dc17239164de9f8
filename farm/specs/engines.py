"""Engines, and what the stages that build, run and compare them receive."""

from __future__ import annotations

from dataclasses import dataclass, field

from farm.specs.environments import Environment
from farm.specs.matrix import (
    NOT_IN_KEY,
    OMITTED_AT_DEFAULT,
    AnyModel,
    Dims,
    Options,
    Ref,
    Shape,
    Suppression,
    Target,
)


@dataclass(frozen=True)
class CachePath:
    """Where a runtime may keep a cache, which changes the speed of its work and not the result."""

    path: str = field(metadata=NOT_IN_KEY)


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
class TrialInputs:
    """Of the table of models: an engine that runs the batches `sizes` of the random model."""

    engine: Engine
    reference: Ref
    sizes: tuple[Dims, ...]
    classes: int
    mask_threshold: float
    mask_frame: str
    target: Target
