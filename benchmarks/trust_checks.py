"""What the checks of `trust.py` share: their results, and a small engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from farm.catalog import RUNTIMES
from farm.runtimes import Session
from farm.specs import Dims, EngineOptions, Shape
from farm.terminal.tables import table

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Check:
    """One line of the table: what was found beside what was asked for."""

    name: str
    found: str
    goal: str
    holds: bool


def as_table(checks: Sequence[Check]) -> str:
    """Return the checks as a table."""
    lines = [(one.name, one.found, one.goal, "met" if one.holds else "MISSED") for one in checks]
    return table(("check", "found", "goal", "holds"), lines, (False, False, False, False))


def small_network(path: Path, size: int = 80, channels: int = 32, layers: int = 6) -> Floats:
    """Write a small convolutional network, and return an image batch for it.

    Its output is small, as a detector's boxes are: the farm's latency includes copying outputs,
    benchmark_app's does not.
    """
    random, nodes, weights, last = np.random.default_rng(0), [], [], "images"
    for index in range(layers):
        shape = (channels, 3 if index == 0 else channels, 3, 3)
        values = random.standard_normal(shape).astype(np.float32) * 0.05
        weights.append(numpy_helper.from_array(values, f"w{index}"))
        nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"c{index}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [last := f"r{index}"]))
    nodes.append(helper.make_node("GlobalMaxPool", [last], ["pooled"]))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [1, channels, 1, 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, path)
    return random.standard_normal((1, 3, size, size)).astype(np.float32)


def opened(onnx_file: Path, runtime: str, images: Floats, threads: int = 1) -> Session:
    """Build an engine of a runtime beside the file, and open it as the farm does."""
    folder = onnx_file.with_suffix(f".{runtime}")
    options = EngineOptions(runtime, "fp32", Shape("fixed", *[Dims(*images.shape)] * 3))
    if not folder.exists():
        folder.mkdir()
        RUNTIMES[runtime].build(onnx_file, folder, options)
    return RUNTIMES[runtime].open_engine(folder, options, threads)
