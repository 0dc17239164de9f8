"""Engines: how they are built, for which kind of node or GPU, and what opens them."""

from __future__ import annotations

from dataclasses import dataclass, field

from farm.specs.images import Shape
from farm.specs.keys import NOT_IN_KEY, OMITTED_AT_DEFAULT
from farm.specs.models import AnyModel, Options, Suppression


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
