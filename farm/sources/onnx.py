"""A ready ONNX file as a source; ONNX Runtime, without optimisations, is its reference.

What PyTorch once said is not in the file, so engines are held against the plainest run of the
file itself: ONNX Runtime's CPU provider, fp32, its graph left as it is.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from farm import specs
from farm.detections import Floats
from farm.errors import InputError, StepFailed, out_of_memory
from farm.preprocess.settings import pipeline_of
from farm.sources import ready_files, sizes
from farm.sources.own_form import OwnForm, check_form


@dataclass(frozen=True)
class ReadyFile(OwnForm):
    path: Path

    def graph(self, postprocess: str = "graph") -> Any:
        raise StepFailed("a ready ONNX file is no torch module")


def check(model: specs.OnnxModel) -> specs.ModelFacts:
    """The file is run once, where it takes one size; else at the sizes that tell which it takes.

    Raises:
        InputError: no detector in one ONNX file.
        StepFailed: ONNX Runtime refuses it, or its outputs are not in the farm's form.
        MemoryError: it cannot be run here.
    """
    found = load(model)
    n, _, height, width = found.facts.input_shape or (None,) * 4
    shapes: dict[str, tuple[int, ...]] = {}

    def run(size: int) -> None:
        images = np.zeros((n or 1, 3, height or size, width or size), np.float32)
        shapes.update({name: values.shape for name, values in found.run(images).items()})

    if height and width:
        run(0)
    taken = None if height or width else sizes.taken(run)
    if shapes and model.outputs == "detections":
        check_form(shapes, n or 1)
    return replace(found.facts, sizes=taken)


def load(model: specs.OnnxModel) -> ReadyFile:
    """Raises as `check`, but for what is seen only when it runs."""
    path = Path(model.file.path)
    proto = ready_files.read(path)
    names = [output.name for output in proto.graph.output]
    if model.outputs == "detections" and not {"dets", "labels"} <= set(names):
        raise InputError(
            f"its outputs are {', '.join(names)}; expected dets, labels(, masks), or write"
            " `outputs: raw` to compare and measure its raw outputs only",
            str(path),
        )
    facts = specs.ModelFacts(
        classes=model.classes,
        masks=model.outputs == "detections" and "masks" in names,
        pipeline=pipeline_of(model.preprocess),
        clips_boxes=model.clip_boxes,
        input_shape=ready_files.input_shape(proto, path),
        opset=ready_files.opset(proto, path),
        labels_from="`classes` of the matrix",
    )
    return ReadyFile(facts, _runner(proto, path), path)


def set_threads(threads: int) -> None:
    """Does nothing: the reference of a file runs on one core, so that it sums in one order."""


def _runner(proto: onnx.ModelProto, path: Path) -> Any:
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    file = proto.SerializeToString() if ready_files.free_axes(proto.graph) else str(path)
    try:
        session = ort.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # each kind of ONNX Runtime's own, of no common class
        raise _told("refuses it", error) from error
    for one in session.get_outputs():
        if not re.fullmatch(r"tensor\((float|double|float16|bool|u?int\d+)\)", one.type):
            raise InputError(
                f"its output {one.name} is {one.type}, no tensor of numbers", str(path)
            )
    name, names = session.get_inputs()[0].name, [one.name for one in session.get_outputs()]

    def run(images: Floats) -> dict[str, npt.NDArray[Any]]:
        try:
            return dict(zip(names, session.run(names, {name: images}), strict=True))
        except Exception as error:  # likewise
            shape = "x".join(map(str, images.shape))
            raise _told(f"cannot run it at {shape}", error) from error

    return run


def _told(what: str, error: Exception) -> Exception:
    reason = " ".join(str(error).split())[:300]
    text = f"ONNX Runtime, which is its reference, {what}: {reason}"
    return MemoryError(text) if out_of_memory(error) else StepFailed(text)


def export_onnx(
    detector: ReadyFile,
    shape: specs.Shape,
    opset: int | None,
    path: Path,
    postprocess: str = "graph",
) -> None:
    """The file as it is, but that its free axes are bound where the profile's are fixed.

    Raises:
        StepFailed: the file does not hold together at that shape.
    """
    proto = onnx.load(str(detector.path))
    freed = ready_files.free_axes(proto.graph)
    if not _bind(proto.graph, shape) and not freed:
        shutil.copyfile(detector.path, path)
        return
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise StepFailed(f"the file does not hold together at {shape.opt}: {reason}") from error
    onnx.save(proto, str(path))


def _bind(graph: onnx.GraphProto, shape: specs.Shape) -> bool:
    """Give the free axes that the profile fixes their extent; whether there was any."""
    image = ready_files.images(graph)[0]
    bounds = zip(shape.min.as_tuple(), shape.max.as_tuple(), strict=True)
    named: dict[str, int] = {}
    free = False
    for dim, (low, high) in zip(image.type.tensor_type.shape.dim, bounds, strict=True):
        if low == high and not dim.HasField("dim_value"):
            named[dim.dim_param] = low
            dim.dim_value, free = low, True
    for output in graph.output:
        for dim in output.type.tensor_type.shape.dim:
            if dim.dim_param and dim.dim_param in named:
                dim.dim_value = named[dim.dim_param]
    if free:
        del graph.value_info[:]  # of the free axes; runtimes infer it anew
    return free
