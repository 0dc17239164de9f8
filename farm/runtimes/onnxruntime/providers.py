"""ONNX Runtime on a provider that was asked for, and on no other without saying so."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort

from farm.errors import StepFailed, TransientFailure, reports_no_memory
from farm.runtimes.onnxruntime import placement
from farm.runtimes.onnxruntime.sessions import CPU, session_options

if TYPE_CHECKING:
    from farm.specs import EngineOptions

Providers = list[tuple[str, dict[str, Any]]]
"""In order of preference, each with its options: the first is the one that was asked for."""

MODEL, FACTS = "model.onnx", "providers.json"
_NARROW = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


@dataclass(frozen=True)
class Facts:
    """What a build found out. operators: of all nodes that ran, but for those of shapes alone."""

    provider: str
    version: str
    operators: tuple[str, ...]
    elsewhere: str


def prepare(source: Path, folder: Path) -> None:
    """Leave the model with its constants folded: what every provider would do to it first, so
    that the names of the nodes which the providers are then offered are those in the file.

    One below fp32 stays as it is, but for names: it would be folded by a session of the CPU, which
    writes casts to fp32 round all that the CPU has no kernels for, and no GPU would see fp16.
    """
    model = onnx.load(str(source))
    if _below_fp32(model.graph):
        for place, node in enumerate(model.graph.node):
            node.name = node.name or f"{node.op_type}_{place}"
        onnx.save(model, str(folder / MODEL))
        return
    settings = session_options(threads=1)
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath = str(folder / MODEL)
    ort.InferenceSession(str(source), settings, providers=[CPU])


def _below_fp32(graph: onnx.GraphProto) -> bool:
    types = {one.data_type for one in graph.initializer}
    quantised = any(node.op_type == "QuantizeLinear" for node in graph.node)
    return quantised or not types.isdisjoint(_NARROW)


def build(folder: Path, providers: Providers, options: EngineOptions, allow: bool) -> Facts:
    """Run `prepare`'s model once, and leave `providers.json`: what ran where.

    Raises StepFailed where nodes fell back from the first provider, unless that is allowed.
    """
    wanted = providers[0][0]
    graph = onnx.load(str(folder / MODEL), load_external_data=False).graph
    shapes = placement.of_shapes(graph)
    ran = run_profiled(folder / MODEL, providers, options)
    fallen = placement.told(placement.elsewhere(ran, wanted, shapes))
    if fallen and not allow:
        raise StepFailed(
            f"{wanted} was asked for, and nodes ran elsewhere. {fallen}. To allow it: "
            f"runtime_options: {{{options.runtime}: {{allow_fallback: true}}}}"
        )
    operators = sorted({one.operator for one in ran if one.name not in shapes})
    facts = Facts(wanted, ort.__version__, tuple(operators), fallen)
    (folder / FACTS).write_text(json.dumps(asdict(facts), indent=1) + "\n")
    return facts


def read(folder: Path) -> Facts:
    known = json.loads((folder / FACTS).read_text())
    return Facts(**{**known, "operators": tuple(known["operators"])})


def input_name(folder: Path) -> str:
    """Of the images."""
    return str(onnx.load(str(folder / MODEL), load_external_data=False).graph.input[0].name)


def run_profiled(model: Path, providers: Providers, options: EngineOptions) -> list[placement.Ran]:
    """The nodes of one run at the profile's `opt`, with the provider of each."""
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
    return open_session(model, providers, session_options(threads))


def open_session(
    model: Path, providers: Providers, settings: ort.SessionOptions
) -> ort.InferenceSession:
    """Raises TransientFailure where the first provider cannot be had here."""
    wanted = providers[0][0]
    require(wanted)
    with failures(wanted):
        # Without `enable_fallback=0` the Python side tries again on the CPU where a provider
        # fails. With it, one that cannot be loaded is still left out without an error.
        opened = ort.InferenceSession(str(model), settings, providers=providers, enable_fallback=0)
    if wanted not in opened.get_providers():
        raise _not_loaded(wanted)
    return opened


def try_provider(provider: str) -> None:
    """Run one node on it. Raises TransientFailure saying why it cannot be had here."""
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
    """CUDA's and cuDNN's from their packages, where they are installed as such (1.21 and later)."""
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()


def require(provider: str) -> None:
    """That this build of ONNX Runtime has it at all."""
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
    """What ONNX Runtime raises, as the farm tells failures apart: lack of memory, a provider that
    cannot be loaded (`wanted`, while a session is made), and all else, which is left as it is."""
    try:
        yield
    except Exception as error:  # ONNX Runtime's own kinds have no common class
        said = str(error)
        if reports_no_memory(said):
            raise TransientFailure(f"no memory on the GPU: {said}") from error
        if wanted and "Please install" in said:
            raise _not_loaded(wanted) from error
        raise


def _not_loaded(provider: str) -> TransientFailure:
    """ONNX Runtime only logs why: the library is tried once more to tell."""
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
