"""A search between a drawn detector and a faulty copy of it, which a runtime runs."""

from __future__ import annotations

import numpy as np
import onnx
import planted

from farm.bisect.alone import Alone
from farm.bisect.engines import Here
from farm.bisect.graphs import Graph
from farm.bisect.locate import Locate, Located
from farm.bisect.sides import Engine, Reference
from farm.specs import Dims, EngineOptions, Shape

TOLERANCE = 1e-3


def searched(
    model: onnx.ModelProto,
    faulty: onnx.ModelProto,
    seed: int = 0,
    runtime: str = "onnxruntime",
    memory: int = 1 << 20,
    precision: str = "fp32",
    tolerance: float = TOLERANCE,
) -> tuple[Graph, Located]:
    """Search the fault of a file in a precision, which a runtime runs on an image drawn by seed."""
    drawn = np.random.default_rng(seed).normal(size=(1, 3, planted.SIZE, planted.SIZE))
    images, size = drawn.astype(np.float32), Dims(1, 3, planted.SIZE, planted.SIZE)
    graph = Graph(model)
    reference = Reference(graph, images, 1)
    runs = Here(EngineOptions(runtime, precision, Shape("fixed", size, size, size)), 1)
    engine = Engine(faulty, precision, graph, runs, images)
    own = Alone(graph, reference, engine, images)
    located = Locate(graph, reference, engine, reference.shapes(), tolerance, memory, own)
    return graph, located.run(graph.outputs, explain=True)
