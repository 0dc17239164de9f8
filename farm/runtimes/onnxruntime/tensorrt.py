"""ONNX Runtime's TensorRT provider: it builds engines of the parts that TensorRT can run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import onnxruntime as ort

from farm.errors import StepFailed
from farm.runtimes.onnxruntime import providers
from farm.runtimes.onnxruntime.binding import BoundSession
from farm.runtimes.onnxruntime.options import TensorRtProviderOptions, cuda_options
from farm.runtimes.onnxruntime.sessions import CPU
from farm.runtimes.tensorrt import cuda

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from farm.specs import EngineOptions, Shape

PROVIDER = "TensorrtExecutionProvider"
_CACHE = "cache"
_PRECISIONS = {"fp16": "trt_fp16_enable", "bf16": "trt_bf16_enable", "int8": "trt_int8_enable"}


def build(onnx: Path, folder: Path, options: EngineOptions) -> Mapping[str, Any]:
    """Leave `model.onnx`, `cache/` with the engines, and `providers.json` about both.

    Raises:
        StepFailed: nodes fell back to another provider, TensorRT runs no part of the model, or int8
            was to be made by the builder's flag.
        TransientFailure: no GPU, provider or memory here.
    """
    chosen = TensorRtProviderOptions.read(options)
    if chosen.builder_flags and options.precision == "int8":
        raise StepFailed("int8 by the builder's flag needs a calibration")
    cuda.require_memory(cuda.gpus()[0], options.workspace_bytes)
    _load_libraries()
    providers.require(PROVIDER)
    providers.prepare(onnx, folder)
    cache = folder / _CACHE
    cache.mkdir()
    with TemporaryDirectory() as times:
        kept = _timing_folder(chosen.timing_cache)
        own = provider_options(options, chosen, providers.input_name(folder), cache)
        if kept:
            _copy(kept, Path(times))
            own |= {"trt_timing_cache_enable": True, "trt_timing_cache_path": times}
        facts = providers.build(folder, _providers(own, options), options, chosen.allow_fallback)
        if kept:
            _copy(Path(times), kept)
    if not _engines(cache):
        raise StepFailed("TensorRT runs no part of this model: ONNX Runtime wrote no engine")
    return {"fallback": facts.fallback or None}


def open_engine(folder: Path, options: EngineOptions, threads: int) -> CachedSession:
    """Open a copy of the engines that `build` left.

    Raises:
        TransientFailure: no GPU or no such provider here, or memory ran out.
    """
    chosen = TensorRtProviderOptions.read(options)
    cuda.gpus()
    _load_libraries()
    return CachedSession(folder, options, chosen, threads)


class CachedSession(BoundSession):
    """A session on a copy of the engines, since ONNX Runtime may write into its cache at any time.

    Its first run raises StepFailed where ONNX Runtime built an engine again.
    """

    def __init__(
        self, folder: Path, options: EngineOptions, chosen: TensorRtProviderOptions, threads: int
    ) -> None:
        self._folder = TemporaryDirectory()
        self._cache = Path(self._folder.name)
        shutil.copytree(folder / _CACHE, self._cache, dirs_exist_ok=True)
        self._built: dict[str, int] | None = _engines(self._cache)
        own = provider_options(options, chosen, providers.input_name(folder), self._cache)
        model = folder / providers.MODEL
        super().__init__(providers.session(model, _providers(own, options), threads), "cuda")

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """Run the model; see `farm.runtimes.Session`.

        Raises:
            StepFailed: ONNX Runtime built an engine again.
        """
        outputs = super().run(images)
        if self._built is not None and _engines(self._cache) != self._built:
            raise StepFailed(
                "ONNX Runtime built an engine again instead of using the one that was built"
            )
        self._built = None  # the first run loads the engines; later ones need no look
        return outputs

    def close(self) -> None:
        """Free the session and the copy of its engines."""
        super().close()
        self._folder.cleanup()


def provider_options(
    options: EngineOptions, chosen: TensorRtProviderOptions, name: str, cache: Path
) -> dict[str, Any]:
    """Return the options of TensorrtExecutionProvider; `name`: of the input.

    From TensorRT 10 on its networks are strongly typed, as the file says, unless a precision's flag
    is set: then TensorRT may lower all of it, which is what `builder_flags` allows.
    """
    own: dict[str, Any] = {
        "device_id": 0,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(cache),
    }
    if options.workspace_bytes is not None:
        own["trt_max_workspace_size"] = options.workspace_bytes
    if chosen.builder_flags and options.precision != "fp32":
        own[_PRECISIONS[options.precision]] = True
    if chosen.optimization_level is not None:
        own["trt_builder_optimization_level"] = chosen.optimization_level
    if chosen.hardware_compatible:
        own["trt_engine_hw_compatible"] = True
    return own | _profile(options.shape, name) | chosen.provider_options


def _profile(shape: Shape, name: str) -> dict[str, str]:
    """Return the profile, without which engines are built anew for each size while they run."""
    if not shape.dynamic:
        return {}
    bounds = {"min": shape.min, "opt": shape.opt, "max": shape.max}
    return {f"trt_profile_{bound}_shapes": f"{name}:{dims}" for bound, dims in bounds.items()}


def _providers(own: dict[str, Any], options: EngineOptions) -> providers.Providers:
    """List CUDA's provider second: nodes that may fall back can then stay on the GPU."""
    behind = ("CUDAExecutionProvider", cuda_options(options))
    return [(PROVIDER, own), behind, (CPU, {})]


def _load_libraries() -> None:
    """Load the libraries of CUDA and TensorRT, with TF32 switched off for all of NVIDIA's.

    The provider itself has no option against TF32, which would shorten the fractions of fp32.
    """
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    providers.load_libraries()
    with suppress(ImportError, OSError):
        import tensorrt  # noqa: F401


def _engines(cache: Path) -> dict[str, int]:
    """Return the engines in the cache, each with the time of its last change."""
    return {path.name: path.stat().st_mtime_ns for path in cache.glob("*.engine")}


# ---------------------------------------------------------------- timing cache


def _timing_folder(root: str | None) -> Path | None:
    """Return the folder of this version; ONNX Runtime names files by compute capability."""
    return Path(root) / f"onnxruntime-{ort.__version__}" if root else None


def _copy(source: Path, folder: Path) -> None:
    """Copy timing files by rename: other builds read there while the provider writes."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in source.glob("*.timing"):
        part = folder / f"{path.name}.{uuid4().hex}"
        shutil.copyfile(path, part)
        part.replace(folder / path.name)
