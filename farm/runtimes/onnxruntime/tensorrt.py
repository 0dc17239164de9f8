"""ONNX Runtime's TensorRT provider: engines of what TensorRT takes, built and kept by it."""

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
    """Leave `model.onnx`, `cache/` with the engines, and `providers.json` about both."""
    asked = TensorRtProviderOptions.read(options)
    if asked.builder_flags and options.precision == "int8":
        raise StepFailed("int8 by the builder's flag needs a calibration")
    cuda.require_memory(cuda.gpus()[0], options.workspace_bytes)
    _load_libraries()
    providers.require(PROVIDER)
    providers.prepare(onnx, folder)
    cache = folder / _CACHE
    cache.mkdir()
    with TemporaryDirectory() as times:
        kept = _kept_times(asked.timing_cache)
        own = provider_options(options, asked, providers.input_name(folder), cache)
        if kept:
            _copy(kept, Path(times))
            own |= {"trt_timing_cache_enable": True, "trt_timing_cache_path": times}
        facts = providers.build(folder, _providers(own, options), options, asked.allow_fallback)
        if kept:
            _copy(Path(times), kept)
    if not _engines(cache):
        raise StepFailed("TensorRT took no part of the model: it left no engine")
    return {"fallback": facts.elsewhere or None}


def open_engine(folder: Path, options: EngineOptions, threads: int) -> CachedSession:
    asked = TensorRtProviderOptions.read(options)
    cuda.gpus()
    _load_libraries()
    return CachedSession(folder, options, asked, threads)


class CachedSession(BoundSession):
    """On a copy of the engines: ONNX Runtime writes into its cache when it sees fit, and what is
    in the store stays as it was built. Raises StepFailed if it built anew what was there."""

    def __init__(
        self, folder: Path, options: EngineOptions, asked: TensorRtProviderOptions, threads: int
    ) -> None:
        self._folder = TemporaryDirectory()
        self._cache = Path(self._folder.name)
        shutil.copytree(folder / _CACHE, self._cache, dirs_exist_ok=True)
        self._built: dict[str, int] | None = _engines(self._cache)
        own = provider_options(options, asked, providers.input_name(folder), self._cache)
        model = folder / providers.MODEL
        super().__init__(providers.session(model, _providers(own, options), threads), "cuda")

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        outputs = super().run(images)
        if self._built is not None and _engines(self._cache) != self._built:
            raise StepFailed("ONNX Runtime built an engine anew instead of taking the one kept")
        self._built = None  # once is enough: it is made ready by the first run
        return outputs

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


def provider_options(
    options: EngineOptions, asked: TensorRtProviderOptions, name: str, cache: Path
) -> dict[str, Any]:
    """TensorrtExecutionProvider's, for images called `name`.

    From TensorRT 10 on its networks are strongly typed, as the file says, unless a precision's flag
    is set: then TensorRT may lower all of it, which is what `builder_flags` asks.
    """
    own: dict[str, Any] = {
        "device_id": 0,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(cache),
    }
    if options.workspace_bytes is not None:
        own["trt_max_workspace_size"] = options.workspace_bytes
    if asked.builder_flags and options.precision != "fp32":
        own[_PRECISIONS[options.precision]] = True
    if asked.optimization_level is not None:
        own["trt_builder_optimization_level"] = asked.optimization_level
    if asked.hardware_compatible:
        own["trt_engine_hw_compatible"] = True
    return own | _profile(options.shape, name) | asked.provider_options


def _profile(shape: Shape, name: str) -> dict[str, str]:
    """Without one, engines would be built for the sizes that come, while they are measured."""
    if not shape.dynamic:
        return {}
    bounds = {"min": shape.min, "opt": shape.opt, "max": shape.max}
    return {f"trt_profile_{bound}_shapes": f"{name}:{dims}" for bound, dims in bounds.items()}


def _providers(own: dict[str, Any], options: EngineOptions) -> providers.Providers:
    """CUDA's stands behind it: what is allowed to fall back need not leave the GPU."""
    behind = ("CUDAExecutionProvider", cuda_options(options))
    return [(PROVIDER, own), behind, (CPU, {})]


def _load_libraries() -> None:
    """fp32 means fp32: the provider has no option against TF32, NVIDIA's libraries have this one.
    TensorRT's package, where it is one, loads the libraries that the provider asks for."""
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    providers.load_libraries()
    with suppress(ImportError, OSError):
        import tensorrt  # noqa: F401


def _engines(cache: Path) -> dict[str, int]:
    """The engines there, with the time of their last change."""
    return {path.name: path.stat().st_mtime_ns for path in cache.glob("*.engine")}


# ---------------------------------------------------------------- how long kernels took


def _kept_times(place: str | None) -> Path | None:
    """Of this version; ONNX Runtime names the file by the compute capability."""
    return Path(place) / f"onnxruntime-{ort.__version__}" if place else None


def _copy(source: Path, folder: Path) -> None:
    """By rename, since other builds read there; the provider itself writes in place."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in source.glob("*.timing"):
        part = folder / f"{path.name}.{uuid4().hex}"
        shutil.copyfile(path, part)
        part.replace(folder / path.name)
