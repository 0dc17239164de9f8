"""The source for a torch module that a user's function returns; it is its own reference.

`package.module:function` is called with the matrix's `options` and returns a `torch.nn.Module`, or
a pair of the module and its input shape (N, C, H, W), with None for a dynamic axis. The module
takes images float32 [N, 3, H, W] and returns tensors in tuples, lists or mappings. With `outputs:
detections` they must be dets, labels(, masks); otherwise they may be any tensors.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from farm import specs
from farm.errors import InputError, StepFailed
from farm.failures import in_one_line
from farm.preprocess.settings import pipeline_of
from farm.sources import onnx_files, sizes, user_code
from farm.sources.checkpoints import weights
from farm.sources.detection_outputs import OwnForm, check_form
from farm.sources.onnx_files import tensors

if TYPE_CHECKING:
    from farm.detections import Floats

_OWN_FORM = ("dets", "labels", "masks")


class Named(nn.Module):
    """Wraps the user's module; `outputs` holds the output names, known after the first run."""

    outputs: tuple[str, ...] = ()

    def __init__(self, module: nn.Module, raw: bool) -> None:
        super().__init__()
        self.module, self.raw = module, raw

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        values = tuple(tensors(self.module(images)))
        self.outputs = _names(len(values), self.raw)
        return values


def _names(count: int, raw: bool) -> tuple[str, ...]:
    """Names for `count` outputs. Raises StepFailed where detections have another number."""
    if raw:
        return tuple(f"out_{i}" for i in range(count))
    if count not in (2, 3):
        raise StepFailed(
            f"the module returns {count} tensors; expected dets, labels(, masks), or `outputs: raw`"
        )
    return _OWN_FORM[:count]


@dataclass(frozen=True)
class Loaded(OwnForm):
    """A loaded torch module of the user's, with named outputs."""

    module: Named

    def graph(self, postprocess: str = "graph") -> Named:
        """Return the torch module to export or to run."""
        return self.module


def check(model: specs.ModuleModel) -> specs.ModelFacts:
    """Run the module and return its facts.

    A module of one fixed input size is run once; any other is run at several sizes, to find out
    which sizes it accepts.

    Raises:
        InputError: the function cannot be imported or called, does not return a module, or returns
            an impossible input shape; or the checkpoint cannot be read or does not fit.
        StepFailed: the module fails at its only size, or its outputs are not in the farm's format.
    """
    loaded = load(model)
    n, _, height, width = loaded.facts.input_shape or (None,) * 4
    shapes: list[tuple[int, ...]] = []

    def run(size: int) -> None:
        images = torch.zeros(n or 1, 3, height or size, width or size)
        with torch.inference_mode():
            shapes[:] = [tuple(one.shape) for one in tensors(loaded.module.module(images))]

    if height and width:
        _run_once(run, f"{n or 1}x3x{height}x{width}")
    taken = None if height and width else sizes.taken(run)
    names = _names(len(shapes), loaded.module.raw) if shapes else ()
    if names and not loaded.module.raw:
        check_form(dict(zip(names, shapes, strict=True)), n or 1)
    # Sizes are tried with square images, which proves nothing where only one side is dynamic.
    return replace(loaded.facts, masks="masks" in names, sizes=None if height or width else taken)


def _run_once(run: sizes.Run, shape: str) -> None:
    try:
        run(0)
    except MemoryError:
        raise
    except Exception as error:  # the user's code raises whatever it wants to
        reason = f"the module cannot be run on images {shape}: {in_one_line(error)}"
        raise StepFailed(reason) from error


def load(model: specs.ModuleModel) -> Loaded:
    """Load the module in eval mode, on the CPU; random numbers are drawn with a fixed seed.

    Raises:
        InputError: as `check`.
    """
    module, shape = _made(model)
    if model.checkpoint is not None:
        path = model.checkpoint.path
        state, _ = weights.read(path, model.allow_pickle)
        weights.fit(module, state, path, "module")
    named = Named(module, model.outputs == "raw").eval()
    facts = specs.ModelFacts(
        classes=model.classes,
        masks=False,  # `check` finds it by running the module
        pipeline=pipeline_of(model.preprocess),
        clips_boxes=model.clip_boxes,
        input_shape=shape,
        labels_from="`classes` of the matrix",
    )

    def run(images: Floats) -> dict[str, npt.NDArray[Any]]:
        with torch.inference_mode():
            values = named(torch.from_numpy(images))
        return {name: v.numpy() for name, v in zip(named.outputs, values, strict=True)}

    return Loaded(facts, run, named)


def set_threads(threads: int) -> None:
    """Set how many cores the module may use."""
    torch.set_num_threads(threads)


def export_onnx(
    detector: Loaded, shape: specs.Shape, opset: int, path: Path, postprocess: str = "graph"
) -> None:
    """Write the module as ONNX.

    Raises:
        StepFailed: the module or one of its operators cannot be exported at this opset.
    """
    onnx_files.write(detector.module, shape, opset, path)


@user_code.ignored()
def _made(model: specs.ModuleModel) -> tuple[nn.Module, tuple[int | None, ...] | None]:
    function = _function(model)
    try:
        with torch.random.fork_rng(devices=[]), _importable(model.root):
            torch.manual_seed(0)
            made = function(**dict(model.options))
    except Exception as error:  # the user's code raises whatever it wants to
        reason = f"{model.function} cannot be called: {in_one_line(error)}"
        raise InputError(reason, model.code.path) from error
    module, shape = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module):
        kind = type(module).__name__
        reason = f"{model.function} returns {kind}, expected a torch.nn.Module, or it and its shape"
        raise InputError(reason, model.code.path)
    return module, _axes(shape, model)


def _axes(shape: Any, model: specs.ModuleModel) -> tuple[int | None, ...] | None:
    if shape is None:
        return None
    axes = tuple(shape)
    fits = len(axes) == 4 and all(axis is None or (type(axis) is int and axis > 0) for axis in axes)
    if not fits or axes[1] not in (3, None):
        reason = (
            f"{model.function} returns the input shape {axes}; expected (N, 3, H, W), with None for"
            " a dynamic axis"
        )
        raise InputError(reason, model.code.path)
    return axes


@user_code.ignored()
def _function(model: specs.ModuleModel) -> Any:
    name, _, attribute = model.function.partition(":")
    try:
        with _importable(model.root):
            module = importlib.import_module(name)
    except Exception as error:  # importing runs the user's code
        raise InputError(
            f"{name} cannot be imported: {in_one_line(error)}", model.code.path
        ) from error
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != Path(model.code.path).resolve():
        reason = f"another module is called {name} ({found}): give yours a name of its own"
        raise InputError(reason, model.code.path)
    if not callable(function := getattr(module, attribute, None)):
        raise InputError(f"it has no function {attribute!r}", model.code.path)
    return function


@contextmanager
def _importable(root: str) -> Iterator[None]:
    """Puts the matrix's folder first on the module search path."""
    sys.path.insert(0, root)
    try:
        yield
    finally:
        sys.path.remove(root)
