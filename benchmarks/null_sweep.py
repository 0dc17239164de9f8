"""Matrices of any number of cells that cost nothing but the farm's own work.

The runtime is `null`, the model an ONNX file of a few nodes, the data set one drawn image. Cells
differ in the largest batch of their shape and in the mean that is taken from images, so that each
has a `build`, a `verify`, an `evaluate` and a `measure` of its own; other steps are a model's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MODELS, SHAPES = 4, 1000
"""The least number of models, and the most shapes of one: a batch is limited to 1024 images."""


def write_matrix(folder: Path, cells: int, name: str = "nothing") -> Path:
    """Write a matrix of so many cells and its model into the folder; return the matrix's path.

    cells: a multiple of 4, from 4,000 on one of 1,000.
    """
    models = max(MODELS, cells // SHAPES)
    shapes, rest = divmod(cells, models)
    if rest:
        raise ValueError(f"{cells} cells are no multiple of {models} models")
    folder.mkdir(parents=True, exist_ok=True)
    _write_model(folder / "null.onnx")
    lines = [f"name: {name}", "models:"]
    lines += [
        f"  m{i}: {{source: onnx, file: null.onnx, classes: [circle], "
        f"preprocess: {{mean: [{i}, 0, 0]}}}}"
        for i in range(models)
    ]
    lines += ["shapes:"]
    lines += [
        f"  s{i}: {{min: 1x3x64x64, opt: 1x3x64x64, max: {i}x3x64x64}}"
        for i in range(2, shapes + 2)
    ]
    lines += [
        "runtimes: ['null']",
        "dataset: {type: synthetic, count: 1, size: 64}",
        "measure: {seconds: 0.001, max_seconds: 1, warmup_seconds: 0, min_samples: 10}",
        "compare: false",
        "verify: {images: 1, min_matched_fraction: 0}",
    ]
    path = folder / f"{name}.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(matrix: Path, results: Path | str, *words: str) -> None:
    """Run a matrix in a process of its own. results: a folder, or an address of an object store.

    Raises:
        subprocess.CalledProcessError: a cell failed, or the run did.
    """
    command = [sys.executable, "-m", "farm", "run", str(matrix), "--results", str(results), *words]
    subprocess.run(command, check=True, capture_output=True)


def _write_model(path: Path) -> None:
    """Write a detector that finds the same box in every image."""
    box, axes = [[[8.0, 8.0, 40.0, 40.0, 0.9]]], [1, 2, 3]
    constants = {
        "zero": np.zeros((1, 1, 1), np.float32),
        "box": np.array(box, np.float32),
        "shape": np.array([-1, 1, 1]),
        "flat": np.array([-1, 1]),
    }
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=axes, keepdims=1),
        helper.make_node("Reshape", ["mean", "shape"], ["one"]),
        helper.make_node("Mul", ["one", "zero"], ["none"]),
        helper.make_node("Add", ["none", "box"], ["dets"]),
        helper.make_node("Reshape", ["none", "flat"], ["flat_none"]),
        helper.make_node("Cast", ["flat_none"], ["labels"], to=TensorProto.INT64),
    ]
    graph = helper.make_graph(
        nodes,
        "null",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [
            helper.make_tensor_value_info("dets", TensorProto.FLOAT, ["n", 1, 5]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["n", 1]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), str(path))
