"""The descriptors of model sources and of stages.

A source is one file or folder in `farm.sources`, a descriptor in `farm.parts.sources` and one line
in `farm.catalog`; or an object in another package that the entry point `farm.sources` names. A
stage is one file or folder in `farm.stages` and a descriptor in `farm.parts.stages`; or an object
under the entry point `farm.stages`.

They stand outside of `farm.sources` and `farm.stages`, which import numpy and the store: a plan
needs neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from farm import specs
from farm.parts.registry import Part

if TYPE_CHECKING:
    from farm.config.measuring import MeasureSpec
    from farm.config.models import ModelSpec
    from farm.sources import Detector
    from farm.stages import Context


class SourceAdapter(Protocol):
    """A module (or an object) with the models of one source.

    model: `specs.OtherModel` for a source of another package: its `options` are what the matrix
    says, with `specs.File` in place of the files that it names.
    """

    def check(self, model: Any) -> specs.ModelFacts:
        """Return the model's facts.

        Raises:
            InputError: what the matrix says of the model is wrong.
            StepFailed: the model cannot be loaded or run.
        """

    def load(self, model: Any) -> Detector:
        """Return the loaded model, with whose outputs engines are compared."""

    def set_threads(self, threads: int) -> None:
        """Limit how many cores loaded models may use in this process."""

    def export_onnx(
        self,
        detector: Any,
        shape: specs.Shape,
        opset: Any,
        path: Path,
        postprocess: str = "graph",
    ) -> None:
        """Write the ONNX file.

        opset: a number; None where the source has `opsets=False`, and files their own.

        Raises:
            StepFailed: the model cannot be exported at this opset or shape.
        """


@dataclass(frozen=True, kw_only=True)
class Source(Part):
    """A model source as the plan sees it.

    adapter: imports what loads its models. spec: the pydantic model of a model's entry in a
    matrix; for other packages a subclass of `farm.config.models.OwnFormSpec`.
    opsets: it writes at the requested opset, so that this is an axis. eager: PyTorch itself can run
    it.
    """

    adapter: Callable[[], SourceAdapter]
    spec: type[ModelSpec]
    opsets: bool = True
    eager: bool = True


@dataclass(frozen=True)
class EngineRun:
    """What the plan knows of a cell whose engine is run.

    threads: how many cores `measure` uses. max_ap_drop: how much AP an engine may lose that is
    evaluated to the end, in points of 100; None for any.
    """

    engine: specs.Engine
    prepared: specs.Ref
    reference: specs.Ref
    facts: specs.ModelFacts
    target: specs.Target
    measure: MeasureSpec
    threads: int
    max_ap_drop: float | None = None


@dataclass(frozen=True, kw_only=True)
class Stage(Part):
    """A stage as the plan, packs and imports see it.

    packages: those that the stage itself uses; those of the source, the data set and the runtime
    are added to them where a step is planned.

    inputs: the dataclass of its frozen inputs. from_engine: makes them, for a stage that runs an
    engine; its step comes after `build`. on_target: it runs on the target of its cells.
    raw_outputs: it also runs engines whose graph ends at raw outputs. eager: it also runs the cells
    of PyTorch itself, which have no engine. exclusive: nothing else of the sweep runs on its node
    meanwhile. shares_gpu: others that do so, too, may run on the same GPU where its memory is
    enough. joint: a step serves several cells, none of which fails with it.
    files: what it leaves beside its figures for results to be computed from, which is taken to
    another machine with the record.
    """

    inputs: type[specs.StageInputs]
    from_engine: Callable[[EngineRun], specs.EngineInputs] | None = None
    on_target: bool = False
    raw_outputs: bool = True
    eager: bool = True
    exclusive: bool = False
    shares_gpu: bool = False
    joint: bool = False
    files: tuple[str, ...] = ()


def _extra_inputs(run: EngineRun) -> specs.ExtraInputs:
    return specs.ExtraInputs(run.engine, run.prepared, run.target)


@dataclass(frozen=True, kw_only=True)
class ExtraStage(Stage):
    """A stage that another package adds.

    It runs once for every engine, after `build`, on the target of its cells: beside `verify`,
    `evaluate` and `measure`, and independently of them. Its figures are kept with the record of
    its step, and a column of the same package (entry point `farm.columns`) shows them. A cell
    whose stage fails has failed.

    run: returns the stage's function, importing what that needs. It is called with the engine
    and the prepared images (`farm.stages.engines.opened` opens the former), writes files into
    `context.folder`, and returns its figures: plain JSON values.

    exclusive: it runs alone on its node, as `measure` does.
    """

    run: Callable[[], Callable[[specs.ExtraInputs, Context], Mapping[str, Any]]]
    inputs: type[specs.StageInputs] = specs.ExtraInputs
    from_engine: Callable[[EngineRun], specs.EngineInputs] | None = _extra_inputs
    on_target: bool = True
    eager: bool = False
