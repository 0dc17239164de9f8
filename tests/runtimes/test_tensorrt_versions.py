"""One module states what differs between TensorRT's versions, from names alone."""

from __future__ import annotations

import pytest

from farm.runtimes.tensorrt.api import HOLDERS, Names, Version, bits, names, version

FLAGS = {"DEBUG", "REFIT", "TF32", "VERSION_COMPATIBLE"}
CONSTRAINTS = {"OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"}


def table(**known: set[str]) -> Names:
    return {holder: frozenset(known.get(holder, ())) for holder in HOLDERS}


# As the bindings of 8.6.0, 10.13 and 11.1 have them; of flags a part.
V8 = table(
    BuilderFlag=FLAGS | CONSTRAINTS | {"FP16", "INT8", "FP8", "STRICT_TYPES"},
    IPluginRegistry={"plugin_creator_list", "load_library"},
    NetworkDefinitionCreationFlag={"EXPLICIT_BATCH", "EXPLICIT_PRECISION"},
)
V10 = table(
    BuilderFlag=FLAGS | CONSTRAINTS | {"FP16", "BF16", "INT8", "FP8"},
    IPluginRegistry={"plugin_creator_list", "all_creators", "load_library"},
    NetworkDefinitionCreationFlag={"EXPLICIT_BATCH", "STRONGLY_TYPED"},
    OnnxParserFlag={"NATIVE_INSTANCENORM"},
)
V11 = table(
    BuilderFlag=FLAGS,
    IPluginRegistry={"all_creators", "load_library"},
    NetworkDefinitionCreationFlag={"STRONGLY_TYPED"},
    OnnxParserFlag={"NATIVE_INSTANCENORM"},
)


def test_8_6_is_told_of_explicit_batch_and_is_weakly_typed() -> None:
    known = version(V8)
    assert known.network_flags == known.loose_network_flags == ("EXPLICIT_BATCH",)
    assert not known.strongly_typed
    assert known.flags_for("fp16") == ("FP16",) and known.flags_for("int8") == ("INT8",)
    assert known.flags_for("bf16") is None
    assert known.constraint == "OBEY_PRECISION_CONSTRAINTS"
    assert known.creators == "plugin_creator_list"
    assert not known.native_instancenorm and not known.ahead_of_time


def test_10_follows_the_files_types_and_is_loose_on_request() -> None:
    known = version(V10)
    assert known.network_flags == ("EXPLICIT_BATCH", "STRONGLY_TYPED")
    assert known.loose_network_flags == ("EXPLICIT_BATCH",)
    assert known.strongly_typed
    assert known.flags_for("bf16") == ("BF16",)
    assert known.creators == "all_creators" and known.native_instancenorm


def test_11_has_no_flags_of_networks_or_precision_left() -> None:
    known = version(V11)
    assert known.network_flags == ()
    assert known.loose_network_flags is None
    assert known.flags_for("fp16") is None and known.flags_for("fp32") == ()
    assert known.constraint is None


def rtx() -> Version:
    return version(names(pytest.importorskip("tensorrt_rtx_bindings")))


def test_rtx_is_11_that_builds_for_gpus_that_are_not_there() -> None:
    known = rtx()
    assert known.ahead_of_time and known.asks_capturable
    assert {"SM75", "SM80", "SM86", "SM89", "SM120"} <= known.compute_capabilities
    assert known.loose_network_flags is None and known.network_flags == ()
    assert known.flags_for("fp16") is None and known.creators == "all_creators"


def test_masks_are_made_of_names_and_not_of_numbers() -> None:
    library = pytest.importorskip("tensorrt_rtx_bindings")
    sources = library.TacticSource
    jit, edge = 1 << int(sources.JIT_CONVOLUTIONS), 1 << int(sources.EDGE_MASK_CONVOLUTIONS)
    assert bits(sources, ("JIT_CONVOLUTIONS",)) == jit > 1
    assert bits(sources, ("JIT_CONVOLUTIONS", "EDGE_MASK_CONVOLUTIONS")) == jit | edge
    assert bits(sources, ()) == 0
