"""A model repository of NVIDIA's Triton Inference Server for the ONNX file of a bundle.

Triton runs the network alone: preprocessing, and the suppression of a graph that ends before it,
are the client's, as `bundle.json` says. An engine that OpenVINO or ONNX Runtime has compiled is no
model of Triton's backends, so they compile the ONNX file themselves; a plan of TensorRT is one.
See docs.nvidia.com/deeplearning/triton-inference-server, Model Configuration.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

if TYPE_CHECKING:
    from farm.specs import Shape

FOLDER = "triton"

_TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.INT32: "TYPE_INT32",
}


def write(folder: Path, bundle: dict[str, Any], model: onnx.ModelProto, shape: Shape) -> None:
    """Write `triton/MODEL/config.pbtxt`, `labels.txt` and `1/model.onnx` or `1/model.plan`."""
    name, runtime = bundle["model"], bundle["engine"]["runtime"]
    place = folder / FOLDER / name
    (place / "1").mkdir(parents=True)
    source = bundle["engine" if runtime == "tensorrt" else "onnx"]["file"]
    shutil.copyfile(folder / source, place / "1" / _file(runtime))
    (place / "labels.txt").write_text("\n".join(bundle["labels"]) + "\n")
    (place / "config.pbtxt").write_text(config(name, runtime, model, shape))


def _file(runtime: str) -> str:
    return "model.plan" if runtime == "tensorrt" else "model.onnx"


def config(name: str, runtime: str, model: onnx.ModelProto, shape: Shape) -> str:
    """Return the text of `config.pbtxt`.

    Batches of any size up to the profile's largest are allowed where the file's batch is free. Of a
    plan Triton reads inputs and outputs itself: TensorRT 8 makes int32 of the file's int64.
    """
    weights = {one.name for one in model.graph.initializer}
    images = next(one for one in model.graph.input if one.name not in weights)
    batched = not images.type.tensor_type.shape.dim[0].HasField("dim_value")
    tensors = list[str]()
    if runtime != "tensorrt":
        tensors += [_tensor("input", images, batched)]
        tensors += [_tensor("output", one, batched) for one in model.graph.output]
    return (
        f'name: "{name}"\n'
        f'backend: "{runtime}"\n'
        f'default_model_filename: "{_file(runtime)}"\n'
        f"max_batch_size: {shape.max.n if batched else 0}\n" + "".join(tensors)
    )


def _tensor(kind: str, value: onnx.ValueInfoProto, batched: bool) -> str:
    """Describe an input or output; its dims are without the batch where Triton may choose that.

    It names no `label_filename`: Triton names the largest of scores by its place, and `labels` has
    a label at each place.
    """
    tensor = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
    return (
        f"{kind} [\n  {{\n"
        f'    name: "{value.name}"\n'
        f"    data_type: {_TYPES[tensor.elem_type]}\n"
        f"    dims: [ {', '.join(map(str, dims[1:] if batched else dims))} ]\n"
        "  }\n]\n"
    )
