"""The two comparisons of a cell: its fp32 file with PyTorch, its engine with that file."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx

from farm.bisect.agreement import Agreed, agree
from farm.bisect.alone import Alone
from farm.bisect.calls import in_users_model
from farm.bisect.graphs import Graph
from farm.bisect.locate import Locate
from farm.bisect.report import Report
from farm.bisect.sides import Engine, Reference
from farm.catalog import SOURCES
from farm.plan.machines.placement import cores

if TYPE_CHECKING:
    from farm.bisect.cells import BisectedCell
    from farm.bisect.engines import Runs

log = logging.getLogger(__name__)

FILE = "the fp32 file"


@dataclass(frozen=True)
class Choices:
    """How to compare.

    against: `pytorch` (the fp32 file with PyTorch), `fp32` (the engine with the fp32 file), or None
    for both. tolerance: how far a value may be off, over its largest one; None for that of the
    cell, with a search only where the outputs differ. memory: the bytes of values that one pass may
    read out, on each side.
    """

    against: str | None
    tolerance: float | None
    memory: int


class Comparisons:
    """The comparisons of one cell, which share what the fp32 file gives for each batch."""

    def __init__(self, cell: BisectedCell, choices: Choices) -> None:
        self._cell, self._choices = cell, choices
        self._graph = Graph(onnx.load(str(cell.exported)))
        batches = [images for images, _ in cell.batches]
        self._files = [Reference(self._graph, images, cores()) for images in batches]
        self._outputs = [one.values(self._graph.outputs, {}) for one in self._files]

    def engine(self, runs: Runs, name: str) -> Report:
        """Compare the engine with the fp32 file. name: what it is called.

        Raises:
            StepFailed: one of the sides cannot run.
            EnvironmentFailed: the engine's environment cannot be made.
        """
        cell, graph = self._cell, self._graph
        theirs = [runs.run(cell.file, images) for images, _ in cell.batches]
        agreed = agree(self._outputs, theirs, cell.batches, cell.decoding, cell.tolerance)
        report = self._report((FILE, name), agreed, cell.tolerance.max_rel_diff)
        if not self._searches(agreed):
            return report
        images, file = cell.batches[agreed.worst][0], self._files[agreed.worst]
        precision = cell.options.precision
        engine = Engine(onnx.load(str(cell.file)), precision, graph, runs, images)
        own = Alone(graph, file, engine, images)
        shapes, memory = file.shapes(), self._choices.memory
        search = Locate(graph, file, engine, shapes, report.tolerance, memory, own)
        located = search.run(graph.outputs, explain=agreed.reason is not None)
        return replace(report, located=located)

    def pytorch(self) -> Report:
        """Compare the fp32 file with PyTorch, module by module.

        Behind a selection of boxes rows may come in another order. So where the boxes agree, only
        modules before it are compared.

        Raises:
            StepFailed: one of the sides cannot run; or as the model's source.
        """
        from farm.bisect.pytorch import PyTorch  # imports torch

        cell, graph = self._cell, self._graph
        source = SOURCES[cell.model.source].adapter()
        source.set_threads(cores())
        module = source.load(cell.model).graph(cell.postprocess)
        ours = [PyTorch(module, graph, images) for images, _ in cell.batches]
        answers = [one.values(graph.outputs, {}) for one in ours]
        tolerance = cell.fp32_tolerance
        agreed = agree(answers, self._outputs, cell.batches, cell.decoding, tolerance)
        report = self._report(("PyTorch", FILE), agreed, tolerance.max_rel_diff)
        if not self._searches(agreed):
            return report
        pytorch, file = ours[agreed.worst], self._files[agreed.worst]
        shapes = file.shapes()
        calls = pytorch.match(shapes)
        modules = {value: in_users_model(call.module) for value, call in calls.items()}
        outputs = graph.outputs if agreed.reason else ()
        part = graph.only({*calls, *outputs} if outputs else graph.unselected() & calls.keys())
        search = Locate(part, pytorch, file, shapes, report.tolerance, self._choices.memory)
        return replace(report, located=search.run(outputs, explain=False), modules=modules)

    def _searches(self, agreed: Agreed) -> bool:
        return agreed.reason is not None or self._choices.tolerance is not None

    def _report(self, names: tuple[str, str], agreed: Agreed, tolerance: float) -> Report:
        return Report(
            cell=self._cell.cell.id,
            names=names,
            images=", ".join(meta.file_name for meta in self._cell.batches[agreed.worst][1]),
            tolerance=self._choices.tolerance or tolerance,
            outputs=agreed.text,
            differs=agreed.reason,
            graph=self._graph,
        )
