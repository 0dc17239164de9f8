"""ONNX Runtime on a requested provider: what another one ran is an error unless it is allowed."""

from __future__ import annotations

import ctypes
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort

from farm.errors import StepFailed, TransientFailure
from farm.failures import reports_no_memory
from farm.runtimes.onnxruntime import placement
from farm.runtimes.onnxruntime.sessions import CPU, session_options

if TYPE_CHECKING:
    from farm.specs import EngineOptions

log = logging.getLogger(__name__)

Providers = list[tuple[str, dict[str, Any]]]
"""In order of preference, each with its options: the first is the requested one."""

MODEL, FACTS = "model.onnx", "providers.json"
_NARROW = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


@dataclass(frozen=True)
class ProviderFacts:
    """What a build found out, kept in `providers.json`.

    operators: those of the nodes that ran and are no computation of shapes. fallback: which nodes
    another provider ran, as `placement.summary` has it; empty for none.
    """

    provider: str
    version: str
    operators: tuple[str, ...]
    fallback: str


def prepare(source: Path, folder: Path) -> None:
    """Leave the model with its constants folded, as every provider would do first.

    The providers are then offered nodes of the names that are in the file.

    A model of reduced precision only gets names for its nodes: a session of the CPU, which would
    fold it, writes casts to fp32 around all nodes that the CPU has no kernels for.
    """
    model = onnx.load(str(source))
    if _has_reduced_precision(model.graph):
        for position, node in enumerate(model.graph.node):
            node.name = node.name or f"{node.op_type}_{position}"
        onnx.save(model, str(folder / MODEL))
        return
    settings = session_options(threads=1)
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath = str(folder / MODEL)
    ort.InferenceSession(str(source), settings, providers=[CPU])


def _has_reduced_precision(graph: onnx.GraphProto) -> bool:
    types = {one.data_type for one in graph.initializer}
    quantised = any(node.op_type == "QuantizeLinear" for node in graph.node)
    return quantised or not types.isdisjoint(_NARROW)


def build(folder: Path, providers: Providers, options: EngineOptions, allow: bool) -> ProviderFacts:
    """Run the model that `prepare` left once, and leave `providers.json`: what ran where.

    Raises:
        StepFailed: nodes fell back from the first provider, and `allow` is not set.
        TransientFailure: the first provider cannot be had here, or memory ran out.
    """
    wanted = providers[0][0]
    graph = onnx.load(str(folder / MODEL), load_external_data=False).graph
    shapes = placement.of_shapes(graph)
    executed = run_profiled(folder / MODEL, providers, options)
    fallback = placement.summary(placement.fallen_back(executed, wanted, shapes))
    if fallback and not allow:
        raise StepFailed(
            f"some nodes did not run on {wanted}. {fallback}. To allow it: "
            f"runtime_options: {{{options.runtime}: {{allow_fallback: true}}}}"
        )
    log.debug("%s: %d nodes ran, fallback: %s", wanted, len(executed), fallback or "none")
    operators = sorted({one.operator for one in executed if one.name not in shapes})
    facts = ProviderFacts(wanted, ort.__version__, tuple(operators), fallback)
    (folder / FACTS).write_text(json.dumps(asdict(facts), indent=1) + "\n")
    return facts


def read(folder: Path) -> ProviderFacts:
    """Read what a build found out."""
    known = json.loads((folder / FACTS).read_text())
    return ProviderFacts(**{**known, "operators": tuple(known["operators"])})


def input_name(folder: Path) -> str:
    """Return the name of the input, which takes the images."""
    return str(onnx.load(str(folder / MODEL), load_external_data=False).graph.input[0].name)


def run_profiled(
    model: Path, providers: Providers, options: EngineOptions
) -> list[placement.ExecutedNode]:
    """Return the nodes of one run at the profile's `opt`, with the provider of each.

    Raises:
        TransientFailure: the first provider cannot be had here, or memory ran out.
    """
    with TemporaryDirectory() as folder:
        settings = session_options(threads=1)
        settings.enable_profiling = True
        settings.profile_file_prefix = f"{folder}/run"
        session = open_session(model, providers, settings)
        noise = np.random.default_rng(0).standard_normal(options.shape.opt.as_tuple())
        name = session.get_inputs()[0].name
        with failures():
            session.run(None, {name: noise.astype(np.float32)})
        return placement.read(Path(session.end_profiling()))


def session(model: Path, providers: Providers, threads: int) -> ort.InferenceSession:
    """Open a session as `open_session`, with the options of all sessions."""
    return open_session(model, providers, session_options(threads))


def open_session(
    model: Path, providers: Providers, settings: ort.SessionOptions
) -> ort.InferenceSession:
    """Open a session whose first provider is there.

    Raises:
        TransientFailure: the first provider cannot be had here, or memory ran out.
    """
    wanted = providers[0][0]
    require(wanted)
    with failures(wanted):
        # Without `enable_fallback=0` the Python side tries again on the CPU where a provider
        # fails. With it, one that cannot be loaded is still omitted without an error.
        opened = ort.InferenceSession(str(model), settings, providers=providers, enable_fallback=0)
    if wanted not in opened.get_providers():
        raise _not_loaded(wanted)
    return opened


def try_provider(provider: str) -> None:
    """Run one node on a provider.

    Raises:
        TransientFailure: it cannot be had here, and why.
    """
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "one", [value], [out])
    opset = onnx.helper.make_opsetid("", 11)
    with TemporaryDirectory() as folder:
        model = Path(folder) / MODEL
        onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), str(model))
        opened = session(model, [(provider, {}), (CPU, {})], threads=1)
        opened.run(None, {"x": np.zeros(1, np.float32)})


def load_libraries() -> None:
    """Load CUDA and cuDNN from their Python packages, where they are installed so (since 1.21)."""
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()


def require(provider: str) -> None:
    """Check that this build of ONNX Runtime has the provider.

    Raises:
        TransientFailure: it has not; names what it has, and what to install.
    """
    if provider in ort.get_available_providers():
        return
    has = ", ".join(ort.get_available_providers())
    raise TransientFailure(
        f"ONNX Runtime {ort.__version__} here has no {provider}, but {has}. Of onnxruntime and "
        "onnxruntime-gpu only one can be installed: pip uninstall -y onnxruntime onnxruntime-gpu "
        "&& pip install -e '.[gpu]' -c constraints.txt"
    )


@contextmanager
def failures(wanted: str = "") -> Iterator[None]:
    """Raise what ONNX Runtime reports as the farm's own errors; all else passes unchanged.

    wanted: the provider of a session that is being opened.

    Raises:
        TransientFailure: memory ran out, or the provider cannot be loaded.
    """
    try:
        yield
    except Exception as error:  # ONNX Runtime's own kinds have no common class
        message = str(error)
        if reports_no_memory(message):
            raise TransientFailure(f"no memory on the GPU: {message}") from error
        if wanted and "Please install" in message:
            raise _not_loaded(wanted) from error
        raise


def _not_loaded(provider: str) -> TransientFailure:
    """Load the provider's library once more to learn the reason, which ONNX Runtime only logs."""
    name = provider.removesuffix("ExecutionProvider").lower()
    library = Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"
    try:
        ctypes.CDLL(str(library))
        reason = "its log says why"
    except OSError as error:
        reason = str(error)
    return TransientFailure(
        f"ONNX Runtime {ort.__version__} could not load {provider}: {reason}. It needs the CUDA "
        "and cuDNN, and for TensorRT the TensorRT, that it was built with"
    )
