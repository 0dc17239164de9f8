"""The descriptor of a runtime: what planning, tables and `farm doctor` need to know of it.

A runtime is one file or one folder here and one line in `farm.catalog`, or an object in another
package that the entry point `farm.runtimes` names. Its module has the descriptor and imports no
heavy library; the adapter, which does, is imported when an engine is built or opened:

    def _adapter() -> EngineAdapter:
        from farm.runtimes.openvino import adapter
        return adapter

    RUNTIME = Runtime(name="openvino", packages=("openvino",), engines=_adapter)

`Finding`, `install_extra` and `installed` are for probes, by which `farm doctor` looks for a
runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from farm.parts.registry import Part

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from farm.options import RuntimeOptions
    from farm.specs import EngineOptions


Status = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for: `found` says what there is, `how` how to get it."""

    name: str
    status: Status
    found: str
    how: str = ""


def install_extra(name: str) -> str:
    """Return the command that installs one of the farm's extras."""
    return f"pip install -e '.[{name}]' -c constraints.txt"


def installed(package: str) -> bool:
    """Whether the package's metadata are here; nothing is imported."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


class Session(Protocol):
    """An engine ready to run."""

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """images: float32 [N, 3, H, W], C-contiguous, as prepared.

        Returns `dets` float32 [N, K, 5] (x1 y1 x2 y2 score, network pixels), `labels`
        [N, K] (-1 for empty rows) and, for mask models, `masks` float32 [N, K, m, m]; a graph
        that ends earlier, what that has. The arrays are the caller's own.
        """

    def close(self) -> None:
        """Free the engine."""


@runtime_checkable
class Graphed(Protocol):
    """A session that may have its work captured as one CUDA graph."""

    @property
    def uses_cuda_graph(self) -> bool:
        """Whether runs are launched as one CUDA graph."""


@runtime_checkable
class DeviceTimed(Protocol):
    """A session that knows how long its accelerator alone took."""

    def device_time_ms(self) -> float:
        """Return the time of the last run without copies and without the host's work."""


@runtime_checkable
class Concurrent(Protocol):
    """A session whose engine can work on several requests at once."""

    def concurrent(self, streams: int) -> Sequence[Session]:
        """Open so many sessions of the same engine, each to be run by a thread of its own.

        On a CPU they have together the cores that this one has. The caller closes them all before
        this one.

        Raises:
            TransientFailure: memory ran out; or the library's own errors.
        """


class EngineAdapter(Protocol):
    """A module (or an object) that builds engines from ONNX files and opens them."""

    def build(self, onnx: Path, folder: Path, options: EngineOptions) -> Mapping[str, Any] | None:
        """Leave an engine in `folder`, and return figures of its own for the record, or None."""

    def open_engine(self, folder: Path, options: EngineOptions, threads: int) -> Session:
        """Open the engine that `build` wrote."""


class ModuleAdapter(Protocol):
    """A module (or an object) that runs a torch module as it is."""

    def open_module(self, module: Any, threads: int) -> Session:
        """`module.outputs` are the names of what it returns."""


@dataclass(frozen=True, kw_only=True)
class Runtime(Part):
    """A runtime, which has `engines` or `modules`.

    engines: returns the adapter that builds and opens engines. modules: the one that runs the
    model itself; no file is exported, so that the opset is no axis.
    short: its name in narrow tables. title: its name in texts.
    options: the pydantic model of its options in a matrix; None where it takes any and raises
    its own errors. See `farm.options` for options that name files.
    probe: looks for it on this machine, for `farm doctor`, in a process of its own. install: the
    command that gets it, shown where the probe finds it missing and names no other. needs: what an
    environment of its own has beside `packages`, as pip takes it; `{release}` stands for the
    release that the matrix asks for, such as `==1.6.*`.

    workspaces: the workspace is an axis. postprocess: the end of the graph is an axis, since its
    outputs are those of the file. accelerators: it runs on targets with an accelerator, instead of
    on CPUs.
    precisions: those whose files it takes; see its adapter for what it computes in.
    builder_flags: its builder can reduce the precision of an fp32 file, if the matrix sets the
    option of this name; `convert` is then left out. by_flag: the precisions of which it takes
    no file, so that they need that option.
    simplified_dynamic: it takes simplified files with free axes. TensorRT does not count as one
    that does until that is shown: with it a model is either simplified or dynamic.
    max_opsets: beginnings of its version, each with the highest opset that this reads.
    compute_capabilities: those it builds for, with no GPU there; () where engines are built on
    the target itself. suppresses: it has NonMaxSuppression. profiles: it builds for the least and
    the largest size of a dynamic shape, which the network must then take.
    portable: applications give it the ONNX file itself, which opens on any machine and in any
    release that knows its opset; else an engine is bound to the release that built it.
    """

    engines: Callable[[], EngineAdapter] | None = None
    modules: Callable[[], ModuleAdapter] | None = None
    short: str = ""
    title: str = ""
    options: type[RuntimeOptions] | None = None
    probe: Callable[[], Finding] | None = None
    install: str = ""
    needs: tuple[str, ...] = ()
    workspaces: bool = False
    postprocess: bool = True
    accelerators: bool = False
    precisions: tuple[str, ...] = ("fp32",)
    builder_flags: bool = False
    by_flag: tuple[str, ...] = ()
    simplified_dynamic: bool = True
    max_opsets: tuple[tuple[str, int], ...] = ()
    compute_capabilities: tuple[str, ...] = ()
    suppresses: bool = True
    profiles: bool = False
    portable: bool = False

    def __post_init__(self) -> None:
        if (self.engines is None) == (self.modules is None):
            raise ValueError(f"runtime {self.name!r} needs either `engines` or `modules`")

    @property
    def exported(self) -> bool:
        """Whether it builds engines from ONNX files; else it runs the model itself."""
        return self.engines is not None

    @property
    def option_names(self) -> tuple[str, ...]:
        """Its options by name; () where it takes any."""
        return tuple(self.options.model_fields) if self.options else ()

    def build(self, onnx: Path, folder: Path, options: EngineOptions) -> Mapping[str, Any] | None:
        """Build an engine: see `EngineAdapter`. Imports the runtime's library.

        Raises:
            TypeError: it runs the model itself, and has no engines.
        """
        return self._engines().build(onnx, folder, options)

    def open_engine(self, folder: Path, options: EngineOptions, threads: int) -> Session:
        """Open an engine: see `EngineAdapter`. Imports the runtime's library.

        Raises:
            TypeError: it runs the model itself, and has no engines.
        """
        return self._engines().open_engine(folder, options, threads)

    def open_module(self, module: Any, threads: int) -> Session:
        """Open a torch module: see `ModuleAdapter`. Imports the runtime's library.

        Raises:
            TypeError: it runs engines, no modules.
        """
        if self.modules is None:
            raise TypeError(f"{self.name} runs engines, no torch modules")
        return self.modules().open_module(module, threads)

    def _engines(self) -> EngineAdapter:
        if self.engines is None:
            raise TypeError(f"{self.name} runs the model itself, and has no engines")
        return self.engines()
