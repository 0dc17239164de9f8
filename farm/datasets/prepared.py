"""Prepared images in one flat file that every later stage maps instead of decoding again.

`images.bin` holds the tensors one after another, `images.json` where each begins and the
`ImageMeta` of each. A tensor whose values are all whole numbers in 0..255 (no normalisation, as
in YOLOX) is kept as uint8: a quarter of the size and exactly the same values.
"""

from __future__ import annotations

import copy
import json
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from farm.detections import Floats, ImageMeta


class PreparedWriter:
    """Appends tensors [3, H, W] to a folder; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / "images.bin").open("wb")
        self._index: list[dict[str, Any]] = []

    def add(self, image: npt.NDArray[Any], meta: ImageMeta) -> None:
        """Append an image and its meta."""
        stored = _narrow(image)
        row = {"offset": self._file.tell(), "dtype": stored.dtype.name, "shape": stored.shape}
        self._index.append({**row, "meta": asdict(meta)})
        self._file.write(stored.tobytes())

    def __enter__(self) -> PreparedWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        (self._folder / "images.json").write_text(json.dumps(self._index))


def _narrow(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    small = image.astype(np.uint8)
    return small if np.array_equal(small, image) else np.ascontiguousarray(image, np.float32)


class Prepared:
    """The prepared images of one folder, mapped into memory."""

    def __init__(self, folder: Path) -> None:
        self.annotations = folder / "annotations.json"
        self._index = json.loads((folder / "images.json").read_text())
        self._data = _mapped(folder / "images.bin")
        self.metas = [ImageMeta(**row["meta"]) for row in self._index]

    def __len__(self) -> int:
        return len(self._index)

    def subset(self, indices: Sequence[int]) -> Prepared:
        """Return these images alone, in this order; the annotations stay those of all."""
        found = copy.copy(self)
        found._index = [self._index[i] for i in indices]
        found.metas = [self.metas[i] for i in indices]
        return found

    def image(self, i: int) -> Floats:
        """Return a copy of an image, float32 [3, H, W]."""
        pixels: Floats = self._stored(i).astype(np.float32)
        return pixels

    def _stored(self, i: int) -> npt.NDArray[Any]:
        """An image as the file has it, uint8 or float32."""
        row = self._index[i]
        dtype, shape = np.dtype(row["dtype"]), tuple(row["shape"])
        size = dtype.itemsize * int(np.prod(shape))
        start = row["offset"]
        stored: npt.NDArray[Any] = self._data[start : start + size].view(dtype).reshape(shape)
        return stored

    def batches(self, size: int) -> Iterator[tuple[range, Floats]]:
        """Yield all images in order as float32 [size, 3, H, W], with the indices each one holds.

        Only neighbours of the same height and width share a batch; the last of a run is filled
        up by repeating its last image, since an engine of fixed batch needs them all.
        """
        start = 0
        while start < len(self):
            stop = start + 1
            while (
                stop < len(self)
                and stop - start < size
                and self._index[stop]["shape"] == self._index[start]["shape"]
            ):
                stop += 1
            images = np.empty((size, *self._index[start]["shape"]), np.float32)
            for place in range(size):  # each pixel is copied once
                images[place] = self._stored(min(start + place, stop - 1))
            yield range(start, stop), images
            start = stop


def _mapped(path: Path) -> npt.NDArray[np.uint8]:
    """A plain array over a file: slicing a memmap takes longer than a small image does."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return np.zeros(0, np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
