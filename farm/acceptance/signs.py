"""Weights of two values a channel, kept as one bit each: an ONNX file's large layers in a pack.

A file becomes its blocks (each named by the digest of its own bytes, so that files which share
weights share blocks) and the rest of its bytes. Putting them together gives the same file, byte
for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

LEAST_WEIGHTS = 4096
"""Smaller layers are not worth a block."""

PARTS, REST = ".parts.json", ".rest"


def take_apart(onnx: Path, place: Path, blocks: Path) -> None:
    """Leaves `place`.parts.json and `place`.rest, and what it does not find yet in `blocks`."""
    data, parts, rest, start = onnx.read_bytes(), [], bytearray(), 0
    for at, weights in _large(onnx, data):
        rows, bits = len(weights), np.packbits(weights < 0)
        size = np.abs(weights[:, 0]).astype(np.float32)
        block = size.tobytes() + bits.tobytes()
        if _weights(block, *weights.shape).tobytes() != weights.tobytes():
            continue  # not of two values: it stays where it is
        name = hashlib.sha256(block).hexdigest()
        if not (blocks / name).exists():
            (blocks / name).write_bytes(block)
        rest += data[start:at]
        parts.append([at, rows, weights.shape[1], name])
        start = at + weights.nbytes
    rest += data[start:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.with_name(place.name + PARTS).write_text(json.dumps({"size": len(data), "parts": parts}))
    place.with_name(place.name + REST).write_bytes(rest)


def put_together(place: Path, blocks: Path, onnx: Path) -> None:
    """Writes the file that `take_apart` was given. Raises OSError, ValueError or KeyError."""
    told = json.loads(place.with_name(place.name + PARTS).read_text())
    rest, done = place.with_name(place.name + REST).read_bytes(), 0
    with onnx.open("wb") as file:
        for at, rows, columns, name in told["parts"]:
            between = at - file.tell()
            file.write(rest[done : done + between])
            done += between
            file.write(_weights((blocks / name).read_bytes(), rows, columns).tobytes())
        file.write(rest[done:])
        if file.tell() != told["size"]:
            raise ValueError(f"{onnx.name}: {file.tell()} bytes, expected {told['size']}")


def _weights(block: bytes, rows: int, columns: int) -> npt.NDArray[np.float32]:
    size = np.frombuffer(block, np.float32, rows)[:, None]
    bits = np.frombuffer(block, np.uint8, offset=4 * rows)
    negative = np.unpackbits(bits, count=rows * columns).reshape(rows, columns)
    return np.where(negative, -size, size)


def _large(path: Path, data: bytes) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Where the large layers' weights lie in the file, and they, a row to each channel."""
    import onnx

    start = 0
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        raw = tensor.raw_data
        large = len(raw) >= 4 * LEAST_WEIGHTS and len(tensor.dims) > 1
        if not large or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        at = data.find(raw, start)  # a file has them in this order
        if at >= 0:
            start = at + len(raw)
            yield at, np.frombuffer(raw, np.float32).reshape(tensor.dims[0], -1)
