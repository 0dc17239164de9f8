"""Reads a ready ONNX file of any producer, and finds what is wrong with it without running it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx

from farm.errors import InputError

Axes = tuple[int | None, ...]

_MOST = (1024, 3, 16384, 16384)
"""The largest extents of images [N, C, H, W] that a matrix allows."""


def read(path: Path) -> onnx.ModelProto:
    """Read and check the file.

    Raises:
        InputError: the file is not a single, complete, valid ONNX file with outputs.
    """
    try:
        proto = onnx.load(str(path), load_external_data=False)
        whole = all(one.data_location != onnx.TensorProto.EXTERNAL for one in _constants(proto))
        if whole:  # the checker looks for external files in the current folder
            onnx.checker.check_model(proto)
    except Exception as error:  # protobuf and ONNX raise errors of many types
        reason = " ".join(str(error).split())[:200]
        why = f"not a valid ONNX file ({type(error).__name__}: {reason})"
        raise InputError(why, str(path)) from error
    if not whole:
        raise InputError("it keeps its weights in other files; save it as one file", str(path))
    if not proto.graph.output:
        raise InputError("it has no outputs", str(path))
    for one in proto.graph.output:
        if not one.name.isprintable() or ".." in one.name.split("/"):
            reason = f"its output is called {one.name!r}; expected printable characters, no '..'"
            raise InputError(reason, str(path))
    return proto


def _constants(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The constants of the graph and its functions, including the subgraphs of their nodes."""
    yield from _of_graph(proto.graph)
    for function in proto.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _of_sparse(graph.sparse_initializer)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        yield from _of_sparse((attribute.sparse_tensor, *attribute.sparse_tensors))
        for inner in (attribute.g, *attribute.graphs):
            yield from _of_graph(inner)


def _of_sparse(tensors: Iterable[onnx.SparseTensorProto]) -> Iterator[onnx.TensorProto]:
    for tensor in tensors:
        yield from (tensor.values, tensor.indices)


def opset(proto: onnx.ModelProto, path: Path) -> int:
    """Return the opset of ONNX's own operators that the file imports.

    Raises:
        InputError: the file imports none, or one that is not known.
    """
    versions = [one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")]
    known = onnx.defs.onnx_opset_version()
    if not versions:
        raise InputError("it names no opset of ONNX's own operators (domain '')", str(path))
    if not 1 <= max(versions) <= known:
        reason = f"its opset is {max(versions)}; onnx {onnx.__version__} knows 1 to {known}"
        raise InputError(reason, str(path))
    return max(versions)


def images(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs, without the constants that older files list among them."""
    weights = {one.name for one in graph.initializer}
    return [one for one in graph.input if one.name not in weights]


def input_shape(proto: onnx.ModelProto, path: Path) -> Axes:
    """Return N, C, H, W of the only input; None for a dynamic axis.

    Raises:
        InputError: the file has another number of inputs, or its input is no batch of images.
    """
    found = images(proto.graph)
    if len(found) != 1:
        names = ", ".join(one.name for one in found) or "none"
        raise InputError(f"it has the inputs {names}; expected one, of images", str(path))
    image = found[0]
    if image.type.WhichOneof("value") != "tensor_type":
        raise InputError(f"its input {image.name} is no tensor; expected float Nx3xHxW", str(path))
    kind = image.type.tensor_type
    axes = tuple(_extent(dim) for dim in kind.shape.dim)
    if kind.elem_type != onnx.TensorProto.FLOAT or len(axes) != 4 or axes[1] not in (3, None):
        dims = "x".join(str(axis or "?") for axis in axes)
        said = f"its input {image.name} is {_type_name(kind.elem_type)} {dims}"
        raise InputError(f"{said}; expected float Nx3xHxW", str(path))
    for axis, most in zip(axes, _MOST, strict=True):
        if axis is not None and not 1 <= axis <= most:
            dims = "x".join(str(axis or "?") for axis in axes)
            reason = f"its input {image.name} is {dims}; expected up to 1024x3x16384x16384"
            raise InputError(reason, str(path))
    return axes


def _extent(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    """None where the axis is dynamic: it has no value, or -1 or 0, as some exporters write it."""
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value not in (-1, 0) else None


def _type_name(kind: int) -> str:
    known = onnx.TensorProto.DataType.values()
    return onnx.TensorProto.DataType.Name(kind).lower() if kind in known else f"type {kind}"


def free_axes(graph: onnx.GraphProto) -> bool:
    """Name dynamic axes that are written as -1 or 0; return whether there were any."""
    found = False
    for one in (*images(graph), *graph.output):
        for axis, dim in enumerate(one.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and _extent(dim) is None:
                dim.dim_param, found = f"{one.name}_{axis}", True
    if found:
        del graph.value_info[:]  # inferred with the same values
    return found
