"""The options of ONNX Runtime on a GPU: those of a matrix, and those that the farm sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from farm.options import OutputPlace, RuntimeOptions, Text

if TYPE_CHECKING:
    from farm.specs import EngineOptions


class ProviderOptions(RuntimeOptions):
    """allow_fallback: nodes may run on another provider than the one in the runtime's name.
    provider_options: by the provider's own names, over those that the farm sets."""

    allow_fallback: bool = False
    provider_options: dict[str, Any] = {}  # noqa: RUF012 (pydantic copies defaults)


class CudaOptions(ProviderOptions):
    """cuda_graph: run as one, where shapes are fixed and known beforehand."""

    cuda_graph: bool = False


class TensorRtProviderOptions(ProviderOptions):
    """Options of the same meaning as those of `farm.runtimes.tensorrt.options.TensorRtOptions`."""

    builder_flags: bool = False
    hardware_compatible: bool = False
    optimization_level: Annotated[int, Field(ge=0, le=5)] | None = None
    timing_cache: Annotated[Text, OutputPlace()] | None = None


def cuda_options(options: EngineOptions) -> dict[str, Any]:
    """Return the options of CUDAExecutionProvider, also where it is TensorRT's fallback.

    use_tf32: with it, on by default, fp32 products keep 10 bits of their inputs' fractions, and
    scores move by 1e-3. cudnn_conv_algo_search: trying all algorithms pays where shapes stay; with
    free axes it would be done anew for every size of image. arena_extend_strategy: grown by the
    requested size rather than to the next power of two, so that memory in use can be measured. No
    gpu_mem_limit: it limits the arena with its weights and activations, not just a workspace;
    cuDNN's workspace is not limited (cudnn_conv_use_max_workspace is 1 by default).
    """
    return {
        "device_id": 0,
        "use_tf32": 0,
        "cudnn_conv_algo_search": "HEURISTIC" if options.shape.dynamic else "EXHAUSTIVE",
        "arena_extend_strategy": "kSameAsRequested",
    }
