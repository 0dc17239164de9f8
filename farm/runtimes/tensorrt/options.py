"""The options of TensorRT and of TensorRT-RTX in a matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from farm.options import InputFile, OutputPlace, RuntimeOptions, Text, Texts

if TYPE_CHECKING:
    from farm.specs import EngineOptions


class RtxOptions(RuntimeOptions):
    """TensorRT-RTX times nothing, is always strongly typed, and builds for a compute capability.

    plugins: libraries to load first. cuda_graph: run as one, where shapes are fixed and known
    beforehand.
    """

    optimization_level: Annotated[int, Field(ge=0, le=5)] | None = None
    plugins: Annotated[Texts, InputFile("plug-in")] | None = None
    cuda_graph: bool = False


class TensorRtOptions(RtxOptions):
    """The options of TensorRT, which has more of them.

    tactic_sources: names of the only ones that may be used. timing_cache: the file that keeps
    kernels' times, or a folder with one file per GPU model and version. builder_flags: reduce
    the precision of an fp32 file by the builder's flags; without it the file defines all types.
    """

    version_compatible: bool = False
    hardware_compatible: bool = False
    tactic_sources: Texts | None = None
    timing_cache: Annotated[Text, OutputPlace()] | None = None
    builder_flags: bool = False


def parse(options: EngineOptions, ahead_of_time: bool = False) -> TensorRtOptions:
    """Return the options of either library; those that RTX lacks have their defaults.

    Raises:
        InputError: an option does not exist.
    """
    model = RtxOptions if ahead_of_time else TensorRtOptions
    return TensorRtOptions(**dict(model.read(options)))
