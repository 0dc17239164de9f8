"""Weights of two values a channel, kept as one bit each: an ONNX file's large layers in a pack.

A file becomes its blocks (the weights' signs, each block named by the digest of its own bytes, so
that files which share weights share blocks, in whatever precision they are) and the rest of its
bytes. Putting them together gives the same file, byte for byte.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

LEAST_WEIGHTS = 4096
"""Smaller layers are not worth a block."""

PARTS, REST = ".parts.json", ".rest"


def take_apart(onnx: Path, place: Path, blocks: Path) -> None:
    """Leaves `place`.parts.json and `place`.rest, and what it does not find yet in `blocks`."""
    data, parts, rest, start = onnx.read_bytes(), [], bytearray(), 0
    for at, weights in _large(onnx, data):
        size, bits = np.abs(weights[:, :1]), np.packbits(weights < 0).tobytes()
        if _weights(bits, size, weights.shape[1]).tobytes() != weights.tobytes():
            continue  # not of two values: it stays where it is
        name = hashlib.sha256(bits).hexdigest()
        if not (blocks / name).exists():
            (blocks / name).write_bytes(bits)
        rest += data[start:at] + size.tobytes()
        parts.append([at, *weights.shape, weights.dtype.str, name])
        start = at + weights.nbytes
    rest += data[start:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.with_name(place.name + PARTS).write_text(json.dumps({"size": len(data), "parts": parts}))
    place.with_name(place.name + REST).write_bytes(rest)


def put_together(place: Path, blocks: Path, onnx: Path) -> None:
    """Writes the file that `take_apart` was given. Raises OSError, ValueError or KeyError."""
    told = json.loads(place.with_name(place.name + PARTS).read_text())
    rest = io.BytesIO(place.with_name(place.name + REST).read_bytes())
    with onnx.open("wb") as file:
        for at, rows, columns, kind, name in told["parts"]:
            file.write(rest.read(at - file.tell()))
            dtype = np.dtype(kind)
            size = np.frombuffer(rest.read(rows * dtype.itemsize), dtype).reshape(rows, 1)
            file.write(_weights((blocks / name).read_bytes(), size, columns).tobytes())
        file.write(rest.read())
        if file.tell() != told["size"]:
            raise ValueError(f"{onnx.name}: {file.tell()} bytes, expected {told['size']}")


def _weights(bits: bytes, size: npt.NDArray[Any], columns: int) -> npt.NDArray[Any]:
    """size: [rows, 1], of each channel."""
    count = len(size) * columns
    negative = np.unpackbits(np.frombuffer(bits, np.uint8), count=count).reshape(-1, columns)
    return np.where(negative, -size, size)


def _large(path: Path, data: bytes) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Where the large layers' weights lie in the file, and they, a row to each channel."""
    import onnx

    kinds = {
        onnx.TensorProto.FLOAT: np.float32,
        onnx.TensorProto.FLOAT16: np.float16,
        onnx.TensorProto.INT8: np.int8,
    }
    start = 0
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        raw, kind = tensor.raw_data, kinds.get(tensor.data_type)
        if kind is None or len(tensor.dims) < 2:
            continue
        weights = np.frombuffer(raw, kind)
        if len(weights) < LEAST_WEIGHTS:
            continue
        at = data.find(raw, start)  # a file has them in this order
        if at >= 0:
            start = at + len(raw)
            yield at, weights.reshape(tensor.dims[0], -1)
