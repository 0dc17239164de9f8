"""Read the arrays of stages, as files that anyone may have written.

Nothing is unpickled, and the size that a header states is compared with the file before memory is
allocated for it.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from farm.files.jsonfile import read_bytes

Columns = dict[str, npt.NDArray[Any]]

MOST_BYTES = 64 << 20
"""Of a file, and of its content when it is decompressed."""

_PAIRS = ("reference_score", "engine_score", "iou", "box_diff_px", "mask_iou")
_OPTIONAL_PAIRS = ("mask_score_diff",)
_RAW = ("max_abs_diff", "max_rel_diff", "cosine")


def pairs(path: Path) -> Columns:
    """Return the columns of `detections.matching.Pairs` that `verify` wrote.

    Files from before masks had their own scores lack `mask_score_diff`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or holds other arrays.
    """
    return _columns(path, dict.fromkeys(_PAIRS, "f"), dict.fromkeys(_OPTIONAL_PAIRS, "f"))


def raw(path: Path) -> Columns:
    """Return the columns of `detections.raw.Differences`, which have at least one row.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or holds other arrays or none.
    """
    found = _columns(path, {"name": "U", **dict.fromkeys(_RAW, "f")}, {})
    if not len(found["name"]):
        raise ValueError("it has no output")
    return found


def samples(path: Path) -> npt.NDArray[Any]:
    """Return the latencies that `measure` wrote, in ms.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or a latency is negative or not finite.
    """
    found = _array(read_bytes(path, MOST_BYTES), "f")
    if not (np.isfinite(found) & (found >= 0)).all():
        raise ValueError("a latency is negative or not finite")
    return found


READERS: Mapping[str, Callable[[Path], Any]] = {
    "pairs.npz": pairs, "raw.npz": raw, "samples.npy": samples,
}  # fmt: skip


def _columns(path: Path, needed: Mapping[str, str], optional: Mapping[str, str]) -> Columns:
    """Read a .npz whose arrays have these kinds and one length. Raises OSError or ValueError."""
    kinds = {**needed, **optional}
    try:
        with zipfile.ZipFile(io.BytesIO(read_bytes(path, MOST_BYTES))) as file:
            members = {one.filename.removesuffix(".npy"): one for one in file.infolist()}
            _require_names(set(members), needed, kinds, len(file.infolist()))
            if sum(one.file_size for one in members.values()) > MOST_BYTES:
                raise ValueError(f"it unpacks to more than {MOST_BYTES} bytes")
            found = {name: _array(file.read(one), kinds[name]) for name, one in members.items()}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"not a .npz file: {error}") from None
    if len({len(one) for one in found.values()}) > 1:
        raise ValueError("its arrays differ in length")
    return found


def _require_names(
    names: set[str], needed: Mapping[str, str], known: Mapping[str, str], count: int
) -> None:
    if missing := sorted(set(needed) - names):
        raise ValueError(f"it has no array {missing[0]!r}")
    if unknown := sorted(names - set(known)):
        raise ValueError(f"it has {unknown[0]!r}, which is not expected")
    if count != len(names):
        raise ValueError("it has an array twice")


def _array(data: bytes, kind: str) -> npt.NDArray[Any]:
    """Return the array of a .npy, with one axis of floating-point numbers (`f`) or texts (`U`).

    Raises ValueError.
    """
    length = 2 if data[6:7] == b"\1" else 4  # bytes that say how long the rest of the header is
    start = 8 + length + int.from_bytes(data[8 : 8 + length], "little")
    shape, dtype = _header(data[:start])
    if len(shape) != 1 or dtype.kind != kind or not dtype.itemsize:
        raise ValueError(f"an array of {dtype} with shape {shape}, expected one axis of {kind!r}")
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError(f"an array of shape {shape} does not fit its {len(data)} bytes")
    return np.frombuffer(data[start:], dtype)


@lru_cache(maxsize=1024)
def _header(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and type in the header of a .npy; those of a sweep are much the same.

    Raises ValueError.
    """
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"an array of format {version}")
    shape, _, dtype = readers[version](file)
    return shape, dtype
