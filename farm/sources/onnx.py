"""A ready ONNX file as a source; ONNX Runtime, without optimisations, is its reference.

What PyTorch once said is not in the file, so engines are held against the plainest run of the
file itself: ONNX Runtime's CPU provider, fp32, its graph left as it is.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnxruntime as ort

from farm import inputs
from farm.detections import Floats
from farm.errors import InputError, StepFailed
from farm.sources.own_form import OwnForm, pipeline_of

_Axes = tuple[int | None, ...]


@dataclass(frozen=True)
class ReadyFile(OwnForm):
    path: Path

    def graph(self, postprocess: str = "graph") -> Any:
        raise StepFailed("a ready ONNX file is no torch module")


def check(model: inputs.OnnxModel) -> inputs.ModelFacts:
    """Raises InputError: no detector in one ONNX file; StepFailed: ONNX Runtime refuses it."""
    return load(model).facts


def load(model: inputs.OnnxModel) -> ReadyFile:
    """Raises as `check`."""
    path = Path(model.file.path)
    proto = _read(path)
    names = [output.name for output in proto.graph.output]
    if model.outputs == "detections" and not {"dets", "labels"} <= set(names):
        raise InputError(
            f"its outputs are {', '.join(names)}; expected dets, labels(, masks), or write"
            " `outputs: raw` to compare and measure its raw outputs only",
            str(path),
        )
    facts = inputs.ModelFacts(
        classes=model.classes,
        masks="masks" in names,
        pipeline=pipeline_of(model.preprocess),
        input_shape=_input_shape(proto, path),
        opset=next(one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")),
        labels_from="`classes` of the matrix",
    )
    return ReadyFile(facts, _runner(path), path)


def _read(path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.load(str(path), load_external_data=False)
        weights = proto.graph.initializer
        whole = all(one.data_location != onnx.TensorProto.EXTERNAL for one in weights)
        if whole:  # the checker looks for the other files where this process stands
            onnx.checker.check_model(proto)
    except Exception as error:  # protobuf and ONNX raise a dozen kinds for what is no ONNX file
        reason = " ".join(str(error).split())[:200]
        why = f"not a valid ONNX file ({type(error).__name__}: {reason})"
        raise InputError(why, str(path)) from error
    if not whole:
        raise InputError("it keeps its weights in other files; save it as one file", str(path))
    return proto


def _input_shape(proto: onnx.ModelProto, path: Path) -> _Axes:
    """N, C, H, W of its one input; None for a free axis."""
    weights = {one.name for one in proto.graph.initializer}
    images = [one for one in proto.graph.input if one.name not in weights]
    if len(images) != 1:
        raise InputError(
            f"it has the inputs {', '.join(one.name for one in images)}; expected one, of images",
            str(path),
        )
    kind = images[0].type.tensor_type
    axes = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    if kind.elem_type != onnx.TensorProto.FLOAT or len(axes) != 4 or axes[1] not in (3, None):
        dims = "x".join(str(axis or "?") for axis in axes)
        type_name = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        raise InputError(
            f"its input {images[0].name} is {type_name} {dims}; expected float Nx3xHxW", str(path)
        )
    return axes


def _runner(path: Path) -> Any:
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # each kind of ONNX Runtime's own, of no common class
        reason = " ".join(str(error).split())[:300]
        raise StepFailed(f"ONNX Runtime, which is its reference, refuses it: {reason}") from error
    name, names = session.get_inputs()[0].name, [one.name for one in session.get_outputs()]

    def run(images: Floats) -> dict[str, npt.NDArray[Any]]:
        return dict(zip(names, session.run(names, {name: images}), strict=True))

    return run


def export_onnx(
    detector: ReadyFile,
    shape: inputs.Shape,
    opset: int | None,
    path: Path,
    postprocess: str = "graph",
) -> None:
    """The file as it is, but that its free axes are bound where the profile's are fixed.

    Raises:
        StepFailed: the file does not hold together at that shape.
    """
    proto = onnx.load(str(detector.path))
    if not _bind(proto.graph, shape):
        shutil.copyfile(detector.path, path)
        return
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise StepFailed(f"the file does not hold together at {shape.opt}: {reason}") from error
    onnx.save(proto, str(path))


def _bind(graph: onnx.GraphProto, shape: inputs.Shape) -> bool:
    """Give the free axes that the profile fixes their extent; whether there was any."""
    weights = {one.name for one in graph.initializer}
    image = next(one for one in graph.input if one.name not in weights)
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
