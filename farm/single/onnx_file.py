"""An ONNX file from the user's hands: what it takes, and the artifact of the store that it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farm import specs
from farm.catalog import SOURCES
from farm.plan.files import plain_file
from farm.plan.steps import export_step
from farm.single import work
from farm.single.shapes import free
from farm.store import Store
from farm.units import Dims


@dataclass(frozen=True)
class Taken:
    """The extent of a file's input [n, 3, h, w]; None for a free axis."""

    n: int | None
    h: int | None
    w: int | None

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width, where it takes only one."""
        return None if self.h is None or self.w is None else (self.h, self.w)

    def refuses(self, size: Dims) -> bool:
        pairs = ((self.n, size.n), (self.h, size.h), (self.w, size.w))
        return any(own not in (None, wanted) for own, wanted in pairs)

    def __str__(self) -> str:
        axes = (self.n, 3, self.h, self.w)
        return "x".join("any" if axis is None else str(axis) for axis in axes)


def taken(path: Path) -> Taken:
    """Raises InputError for a file that is no ONNX, or takes no batch of images."""
    axes = SOURCES["onnx"].adapter().load(_model(path)).facts.input_shape
    assert axes is not None  # `load` refuses a file without
    return Taken(axes[0], axes[2], axes[3])


def opset(path: Path) -> int | None:
    """Raises as `taken`."""
    found: int | None = SOURCES["onnx"].adapter().load(_model(path)).facts.opset
    return found


def outputs(path: Path) -> tuple[str, ...]:
    """Their names."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    return tuple(one.name for one in model.graph.output)


def stored(path: Path, store: Store, retry_failed: bool) -> specs.Ref:
    """The artifact that the file is: of `farm export` or a sweep, else taken in as it is."""
    if found := work.find(store, "export", path):
        return found.ref
    file = taken(path)
    opt = Dims(file.n or 1, 3, file.h or 1, file.w or 1)
    values = specs.ExportInputs(_model(path), free(file.n, file.h, file.w, opt), None)
    step = export_step(path.name, values)
    work.carry_out(step, store, retry_failed)
    return step.ref


def _model(path: Path) -> specs.OnnxModel:
    """Raw: nothing is asked of the outputs before they are used."""
    return specs.OnnxModel(path.stem, plain_file("ONNX file", str(path), Path()), outputs="raw")
