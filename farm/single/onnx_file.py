"""What an ONNX file from the user says of itself: its input's extent, opset and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farm import specs
from farm.catalog import SOURCES
from farm.plan.files import plain_file
from farm.units import Dims


@dataclass(frozen=True)
class InputExtent:
    """The extent of a file's input [n, 3, h, w]; None for a free axis."""

    n: int | None
    h: int | None
    w: int | None

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width, where the file takes only one size."""
        return None if self.h is None or self.w is None else (self.h, self.w)

    def excludes(self, size: Dims) -> bool:
        """Return whether the file cannot take a batch of this size."""
        pairs = ((self.n, size.n), (self.h, size.h), (self.w, size.w))
        return any(own not in (None, wanted) for own, wanted in pairs)

    def __str__(self) -> str:
        axes = (self.n, 3, self.h, self.w)
        return "x".join("any" if axis is None else str(axis) for axis in axes)


def raw_model(path: Path) -> specs.OnnxModel:
    """Return the file as a model of raw outputs: any outputs will do until they are used.

    Raises:
        InputError: the file is not there.
    """
    return specs.OnnxModel(path.stem, plain_file("ONNX file", str(path), Path()), outputs="raw")


def input_extent(path: Path) -> InputExtent:
    """Return the extent of the file's input.

    Raises:
        InputError: the file is not an ONNX file, or does not take a batch of images.
    """
    axes = _facts(path).input_shape
    assert axes is not None  # `load` raises where a file has no such input
    return InputExtent(axes[0], axes[2], axes[3])


def opset(path: Path) -> int | None:
    """Return the file's opset.

    Raises:
        InputError: as `input_extent`.
    """
    return _facts(path).opset


def outputs(path: Path) -> tuple[str, ...]:
    """Return the names of the file's outputs."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    return tuple(one.name for one in model.graph.output)


def _facts(path: Path) -> specs.ModelFacts:
    return SOURCES["onnx"].adapter().load(raw_model(path)).facts
