"""What ONNX Runtime is told on a GPU: the options of a matrix, and those of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from farm.errors import InputError, nearest

if TYPE_CHECKING:
    from farm.specs import EngineOptions


def parsed(options: EngineOptions, known: Mapping[str, Any]) -> dict[str, Any]:
    """A matrix's options over the defaults in `known`. Raises InputError for an unknown one."""
    values = dict(known)
    for name, value in options.options:
        if name not in known:
            raise InputError(f"{options.runtime} has no option {name!r}{nearest(name, known)}")
        if value is not None:
            values[name] = getattr(value, "path", value)
    return values


def cuda_options(options: EngineOptions) -> dict[str, Any]:
    """Of CUDAExecutionProvider, also where it stands behind TensorRT's.

    use_tf32: with it, on by default, fp32 products keep 10 bits of their inputs' fractions, and
    scores move by 1e-3. cudnn_conv_algo_search: trying all algorithms pays where shapes stay; with
    free axes it would be done anew for every size of image. arena_extend_strategy: grown by what
    is asked, not to the next power of two, memory in use can be told. No gpu_mem_limit: that is of
    the whole arena, weights and activations included, and a workspace is scratch alone; cuDNN's
    workspace is not limited (cudnn_conv_use_max_workspace is 1 by default).
    """
    return {
        "device_id": 0,
        "use_tf32": 0,
        "cudnn_conv_algo_search": "HEURISTIC" if options.shape.dynamic else "EXHAUSTIVE",
        "arena_extend_strategy": "kSameAsRequested",
    }
