"""The source for a ready ONNX file; ONNX Runtime without optimisations is its reference.

The file does not contain PyTorch's results, so engines are compared with the plainest run of the
file itself: ONNX Runtime's CPU provider, fp32, without graph optimisations.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from farm import specs
from farm.errors import InputError, StepFailed
from farm.failures import out_of_memory
from farm.preprocess.settings import pipeline_of
from farm.sources import ready_files, sizes
from farm.sources.detection_outputs import OwnForm, check_form

if TYPE_CHECKING:
    from farm.detections import Floats


@dataclass(frozen=True)
class ReadyFile(OwnForm):
    """A ready ONNX file that ONNX Runtime runs."""

    path: Path

    def graph(self, postprocess: str = "graph") -> Any:
        """Raise an error, since an ONNX file has no torch module.

        Raises:
            StepFailed: always.
        """
        raise StepFailed("a ready ONNX file is no torch module")


def check(model: specs.OnnxModel) -> specs.ModelFacts:
    """Run the file and return its facts.

    A file of one fixed input size is run once; any other is run at several sizes, to find out
    which sizes it accepts.

    Raises:
        InputError: the file is not a detector in a single ONNX file.
        StepFailed: ONNX Runtime refuses it, or its outputs are not in the farm's format.
        MemoryError: this machine has too little memory to run it.
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
    """Load the file for ONNX Runtime.

    Raises:
        InputError: as `check`.
        StepFailed: ONNX Runtime refuses the file.
    """
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
    """Do nothing: the reference runs on one core, so that its sums have a fixed order."""


def _runner(proto: onnx.ModelProto, path: Path) -> Any:
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    file = proto.SerializeToString() if ready_files.free_axes(proto.graph) else str(path)
    try:
        session = ort.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's error types have no common base class
        raise _failure("refuses it", error) from error
    for one in session.get_outputs():
        if not re.fullmatch(r"tensor\((float|double|float16|bool|u?int\d+)\)", one.type):
            raise InputError(
                f"its output {one.name} is {one.type}, no tensor of numbers", str(path)
            )
    name, names = session.get_inputs()[0].name, [one.name for one in session.get_outputs()]

    def run(images: Floats) -> dict[str, npt.NDArray[Any]]:
        try:
            return dict(zip(names, session.run(names, {name: images}), strict=True))
        except Exception as error:  # ONNX Runtime's, as above
            shape = "x".join(map(str, images.shape))
            raise _failure(f"cannot run it at {shape}", error) from error

    return run


def _failure(what: str, error: Exception) -> Exception:
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
    """Copy the file, with dynamic axes set to the profile's sizes where the profile fixes them.

    Raises:
        StepFailed: the graph is not consistent at that shape.
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
        raise StepFailed(f"the graph is not consistent at {shape.opt}: {reason}") from error
    onnx.save(proto, str(path))


def _bind(graph: onnx.GraphProto, shape: specs.Shape) -> bool:
    """Sets the dynamic axes that the profile fixes; returns whether there were any."""
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
        del graph.value_info[:]  # it describes the dynamic axes; runtimes infer it again
    return free
