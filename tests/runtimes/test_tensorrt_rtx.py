"""The TensorRT adapter, by TensorRT-RTX's real builder: parse, profile, build, refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import PROJECT
from onnx import TensorProto, helper, numpy_helper

from farm.errors import InputError, StepFailed, TransientFailure
from farm.runtimes.tensorrt import adapter, builder, cuda, engine, networks
from farm.runtimes.tensorrt.api import logger
from farm.specs import Dims, EngineOptions, Shape

library: Any = pytest.importorskip("tensorrt_rtx_bindings")

FIXED = Shape("fixed", *[Dims(1, 3, 128, 160)] * 3)
DYNAMIC = Shape("dynamic", Dims(1, 3, 64, 96), Dims(1, 3, 128, 160), Dims(4, 3, 256, 320))
SSD_FIXED = Shape("fixed", *[Dims(1, 3, 300, 300)] * 3)
SSD_DYNAMIC = Shape("dynamic", Dims(1, 3, 300, 300), Dims(1, 3, 300, 300), Dims(2, 3, 332, 364))


def options(shape: Shape = FIXED, capability: str | None = "8.9", **own: Any) -> EngineOptions:
    known = tuple(sorted(own.items()))
    return EngineOptions("tensorrt_rtx", "fp32", shape, 1 << 30, known, capability)


Net = Callable[..., Path]


@pytest.fixture
def net(tmp_path: Path) -> Net:
    """A file of one convolution and one more node; axes are free where they are words."""

    def write(operator: str = "Relu", axes: Any = ("n", 3, "h", "w"), **attributes: Any) -> Path:
        weights = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w")
        nodes = [
            helper.make_node("Conv", ["images", "w"], ["c"], name="first", pads=[1] * 4),
            helper.make_node(operator, ["c"], ["out"], name="the one", **attributes),
        ]
        kind = TensorProto.INT64 if operator == "NonZero" else TensorProto.FLOAT
        images = helper.make_tensor_value_info("images", TensorProto.FLOAT, axes)
        out = helper.make_tensor_value_info("out", kind, None)
        graph = helper.make_graph(nodes, "net", [images], [out], [weights])
        opsets = [helper.make_opsetid("", 17)]
        path = tmp_path / f"{operator}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        return path

    return write


def built(path: Path, folder: Path, wanted: EngineOptions) -> engine.EngineFacts:
    folder.mkdir()
    adapter.RTX.build(path, folder, wanted)
    assert (folder / engine.PLAN).stat().st_size > 10_000
    return engine.read(folder)


# ---------------------------------------------------------------- a build that a cache spoils


class Spoiled(builder.Build):
    """A build of which every plan with a timing cache fails, with `text` for the reason."""

    def __init__(self, text: str) -> None:
        super().__init__(library, options())
        self.text, self.tried = text, []

    def timing_cache(self) -> Path:
        return Path("kept.cache")

    def plan(self, onnx: Path, cache: Path | None) -> Any:
        self.tried.append(cache)
        if cache is None:
            return super().plan(onnx, cache)
        self.log.errors.append(self.text)
        return None


def test_a_build_that_blames_its_timing_cache_is_done_without_it(net: Net, tmp_path: Path) -> None:
    build = Spoiled("Myelin error from unknown graph\nThe timing cache will not be used!")
    build.run(net(axes=(1, 3, 128, 160)), tmp_path)
    assert build.tried == [Path("kept.cache"), None]
    assert (tmp_path / engine.PLAN).stat().st_size > 10_000


def test_another_failure_is_not_built_twice(net: Net, tmp_path: Path) -> None:
    build = Spoiled("Could not find any implementation for node the one")
    with pytest.raises(StepFailed, match="any implementation"):
        build.run(net(axes=(1, 3, 128, 160)), tmp_path)
    assert build.tried == [Path("kept.cache")]


# ---------------------------------------------------------------- detectors


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Shape, str], Path]:
    """The ONNX file of a narrow detector of narrow.yaml; its weights are written once."""
    import torch

    from farm import specs
    from farm.models import families
    from farm.plan.content.configs import config_file
    from farm.sources import mmdet as source
    from farm.sources.mmdet import random_weights

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("onnx")
    known = families.read(PROJECT / "tests" / "models" / "narrow.yaml")
    detectors: dict[str, Any] = {}

    def detector(name: str) -> Any:
        family, path = known[name], folder / f"{name}.pth"
        model = specs.Model(
            name, "mmdet", config_file(family.config, Path()), specs.File(str(path), ""),
            tuple(family.options.items()),
        )  # fmt: skip
        random_weights.write(model, family.layer_outputs, family.shape, family.seed)
        return source.load(model)

    def export(name: str, shape: Shape, postprocess: str) -> Path:
        if name not in detectors:
            detectors[name] = detector(name)
        path = folder / f"{name}-{shape.name}-{postprocess}.onnx"
        source.export_onnx(detectors[name], shape, 17, path, postprocess)
        return path

    return export


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's tracer
@pytest.mark.parametrize("postprocess", ["host", "none"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("name", ["retinanet", "ssd", "yolov3", "yolox"])
def test_detectors_build_for_a_gpu_that_is_not_here(
    exported: Any, tmp_path: Path, name: str, dynamic: bool, postprocess: str
) -> None:
    shape = DYNAMIC if dynamic else FIXED
    if name == "ssd":
        shape = SSD_DYNAMIC if dynamic else SSD_FIXED
    facts = built(exported(name, shape, postprocess), tmp_path / "engine", options(shape))
    assert facts.compute_capability == "8.9" and facts.gpu is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_graph_that_ends_behind_its_suppression_is_told_where_to_end(
    exported: Any, tmp_path: Path
) -> None:
    with pytest.raises(StepFailed, match="NonMaxSuppression: end the graph before it") as error:
        built(exported("retinanet", FIXED, "graph"), tmp_path / "engine", options())
    assert "postprocess: host or none" in str(error.value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "postprocess"), [("retinanet", "graph"), ("yolox", "host"), ("yolov3", "host")]
)
def test_all_convolutions_may_be_lowered_and_nothing_of_the_decoding(
    exported: Any, name: str, postprocess: str
) -> None:
    """On the network that the parser makes, though RTX itself has no such flags."""
    _, network, _ = prepared(exported(name, FIXED, postprocess), options())
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    free = networks.reducible(layers)
    heavy = [i for i, layer in enumerate(layers) if layer.type.name == "CONVOLUTION"]
    kinds = {layers[i].type.name for i in free}
    assert len(heavy) > 40 and set(heavy) <= free
    assert {"ACTIVATION", "ELEMENTWISE"} <= kinds  # what lies between them goes with them
    assert not kinds & {"NMS", "TOPK", "GATHER", "SCATTER", "SELECT"}
    decoding = [i for i, layer in enumerate(layers) if layer.type.name == "UNARY"]
    assert decoding and not set(decoding) & free  # the exp of widths and heights
    assert max(free) < max(decoding)


def test_a_lower_precision_that_the_network_does_not_show_is_no_engine(net: Net) -> None:
    _, network, _ = prepared(net(axes=(1, 3, 128, 160)), options())
    with pytest.raises(StepFailed, match=r"all 1 convolutions .* are fp32"):
        networks.keep_types(network, library)


# ---------------------------------------------------------------- what is built


@pytest.mark.parametrize("capability", ["7.5", "8.0", "8.6", "8.9", "12.0"])
def test_every_target_that_the_catalog_names_is_built_for(
    net: Net, tmp_path: Path, capability: str
) -> None:
    facts = built(net(), tmp_path / "engine", options(capability=capability))
    assert facts.compute_capability == capability
    assert facts.version == library.__version__


def prepared(path: Path, wanted: EngineOptions) -> tuple[builder.Build, Any, Any]:
    """A build up to its configuration, its network and that."""
    build = builder.Build(library, wanted)
    maker = build.builder()
    network = build.parsed(maker, path)
    return build, network, build.config(maker, network)


def test_profile_workspace_target_and_level_reach_the_builder(net: Net) -> None:
    wanted = options(DYNAMIC, "8.6", optimization_level=2)
    build, network, config = prepared(net(), wanted)
    profile = builder.profile_of(build.builder(), network, DYNAMIC)
    bounds = [(1, 3, 64, 96), (1, 3, 128, 160), (4, 3, 256, 320)]
    assert [tuple(dims) for dims in profile.get_shape("images")] == bounds
    assert config.num_optimization_profiles == 1
    assert config.get_memory_pool_limit(library.MemoryPoolType.WORKSPACE) == 1 << 30
    assert config.get_compute_capability(0) == library.ComputeCapability.SM86
    assert config.builder_optimization_level == 2


def test_fp32_is_not_tf32(net: Net) -> None:
    build, _, config = prepared(net(), options())
    assert not config.get_flag(library.BuilderFlag.TF32)
    assert build.builder().create_builder_config().get_flag(library.BuilderFlag.TF32)


def test_a_file_of_one_shape_needs_no_profile_and_takes_no_other(net: Net, tmp_path: Path) -> None:
    _, _, config = prepared(net(axes=(1, 3, 128, 160)), options())
    assert config.num_optimization_profiles == 0
    with pytest.raises(StepFailed, match=r"takes 1x3x64x160 .*shape fixed asks for"):
        built(net(axes=(1, 3, 64, 160)), tmp_path / "engine", options())


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("operator", "said"),
    [("NonZero", "end the graph before it"), ("FarmHasNoSuch", "Plugin not found")],
)
def test_a_node_that_cannot_be_read_is_named(
    net: Net, tmp_path: Path, operator: str, said: str
) -> None:
    with pytest.raises(StepFailed, match=rf"node 1 'the one' \({operator}\)") as error:
        built(net(operator), tmp_path / "engine", options())
    assert said in str(error.value)
    assert not any((tmp_path / "engine").iterdir())


def test_a_node_is_named_from_the_log_where_the_error_has_no_name() -> None:
    """As 8.6 has it: the text is that of its ModelImporter.cpp."""
    log = [
        'While parsing node number 7 [NonZero -> "o"]:',
        "--- Begin node ---",
        'input: "x"\noutput: "o"\nname: "/head/NonZero"\nop_type: "NonZero"\n',
        "--- End node ---",
    ]
    error = SimpleNamespace(
        node=lambda: 7, code=lambda: library.ErrorCode.UNSUPPORTED_NODE, desc=lambda: "no",
        func=lambda: "importNonZero", file=lambda: "x.cpp", line=lambda: 1,
    )  # fmt: skip
    told = networks._format_errors("tensorrt 8.6.0", [error], log)
    assert "node 7 '/head/NonZero' (NonZero): UNSUPPORTED_NODE" in told
    assert all(line in told for line in log)


@pytest.mark.parametrize("capability", ["9.0", None])
def test_a_gpu_that_it_cannot_build_for_is_refused_with_those_it_can(
    net: Net, tmp_path: Path, capability: str | None
) -> None:
    with pytest.raises(StepFailed, match=f"SM75, SM80.*not for compute capability {capability}"):
        built(net(), tmp_path / "engine", options(capability=capability))


def test_an_option_that_it_has_not_is_named_with_the_nearest(net: Net, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'optimisation_level'; did you mean 'optimization_lev"):
        built(net(), tmp_path / "a", options(optimisation_level=3))
    with pytest.raises(InputError, match="tensorrt_rtx has no option 'builder_flags'"):
        built(net(), tmp_path / "b", options(builder_flags=True))


def test_a_plugin_that_is_no_library_is_named(net: Net, tmp_path: Path) -> None:
    (tmp_path / "own.so").write_text("not a library")
    with pytest.raises(StepFailed, match=r"plug-in library .*own\.so cannot be loaded"):
        built(net(), tmp_path / "engine", options(plugins=[str(tmp_path / "own.so")]))


ALONE = """
import sys
from pathlib import Path
from farm.errors import TransientFailure
from farm.specs import EngineOptions, Shape
from farm.catalog import RUNTIMES
from farm.specs import Dims
name, call, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
options = EngineOptions(name, "fp32", Shape("s", *[Dims(1, 3, 64, 64)] * 3))
module = RUNTIMES[name]
try:
    module.open_engine(folder, options, 1) if call == "open" else module.build(
        folder / "x.onnx", folder, options)
except TransientFailure as reason:
    print(reason)
"""


@pytest.mark.parametrize(
    ("runtime", "call"), [("tensorrt", "build"), ("tensorrt", "open"), ("tensorrt_rtx", "open")]
)
def test_without_a_gpu_the_reason_is_told_and_no_process_crashes(
    tmp_path: Path, runtime: str, call: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, runtime, call, str(tmp_path)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no NVIDIA GPU here: the driver")


# ---------------------------------------------------------------- engines and their GPU

HOPPER = cuda.Gpu("NVIDIA H200", "9.0", "580.95.05", 141 << 30)


def facts_of(**others: Any) -> engine.EngineFacts:
    known = {"gpu": "NVIDIA H200", "driver": "580", "compute_capability": "9.0"} | others
    return engine.EngineFacts("tensorrt", "8.6.0", precision="fp32", **known)


@pytest.mark.parametrize(
    ("facts", "version", "reason"),
    [
        (facts_of(), "8.6.0", None),
        (facts_of(), "10.13.0", "built by tensorrt 8.6.0, and here is 10.13.0"),
        (facts_of(gpu="NVIDIA H100"), "8.6.0", r"built for NVIDIA H100, and here is NVIDIA H200"),
        (facts_of(compute_capability="8.9"), "8.6.0", r"compute capability 8\.9, NVIDIA H200"),
        (facts_of(driver="570"), "8.6.0", r"under driver 570.*driver 580"),
        (facts_of(version_compatible=True), "10.13.0", None),
        (facts_of(hardware_compatible=True, gpu="NVIDIA A30"), "8.6.0", None),
    ],
)
def test_an_engine_runs_on_its_own_gpu_version_and_driver_only(
    tmp_path: Path, facts: engine.EngineFacts, version: str, reason: str | None
) -> None:
    engine.write(tmp_path, memoryview(b"plan"), facts)
    read = engine.read(tmp_path)
    assert read == facts
    if reason is None:
        engine.require_fit(tmp_path, read, version, HOPPER)
    else:
        with pytest.raises(TransientFailure, match=reason):
            engine.require_fit(tmp_path, read, version, HOPPER)


def test_a_workspace_that_the_gpu_has_not_is_refused_before_a_build(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = cuda.Gpu("NVIDIA L4", "8.9", "580.95.05", 24 << 30)
    monkeypatch.setattr(cuda, "free_memory", lambda: 2 << 30)
    cuda.require_memory(gpu, None)
    cuda.require_memory(gpu, 2 << 30)
    with pytest.raises(StepFailed, match=r"32\.00 GiB is more than NVIDIA L4 .* has: 24\.00 GiB"):
        cuda.require_memory(gpu, 32 << 30)
    with pytest.raises(TransientFailure, match=r"no memory .* 2\.00 GiB of 24\.00 GiB are free"):
        cuda.require_memory(gpu, 4 << 30)


def test_a_folder_without_an_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"no engine of this adapter.*engine\.json"):
        engine.read(tmp_path)


# ---------------------------------------------------------------- the timing cache


@pytest.mark.filterwarnings("ignore:.*Timing cache:DeprecationWarning")
def test_times_are_kept_with_what_other_builds_learnt_meanwhile(tmp_path: Path) -> None:
    """RTX times nothing, and still has the calls: what is kept is its empty cache."""
    maker = library.Builder(logger(library))
    path = tmp_path / "new" / "x.cache"
    for _ in range(2):
        config = maker.create_builder_config()
        engine.load_timings(config, path)
        engine.save_timings(config, path)
        first = path.read_bytes()
        assert len(first) > 100
    assert [one.name for one in path.parent.iterdir()] == ["x.cache"]
    (path.parent / "any").touch()  # with the mode that the umask gives: others share the place
    assert path.stat().st_mode == (path.parent / "any").stat().st_mode
    config = maker.create_builder_config()
    assert config.set_timing_cache(config.create_timing_cache(first), False)
    path.write_bytes(b"torn")  # by a disk that was full, say
    engine.load_timings(config, path)
    engine.save_timings(config, path)
    assert len(path.read_bytes()) > 100


def test_in_a_folder_every_gpu_model_and_version_has_times_of_its_own(tmp_path: Path) -> None:
    def name(version: str, gpu: cuda.Gpu) -> str:
        return engine.timing_file(f"{tmp_path}/new/", "tensorrt", version, gpu).name

    other = cuda.Gpu("NVIDIA L4", "8.9", "580.95.05", 24 << 30)
    newer = cuda.Gpu("NVIDIA H200", "9.0", "590.1", 141 << 30)
    names = {name("10.1", HOPPER), *(name("8.6.0", gpu) for gpu in (HOPPER, other, newer))}
    assert len(names) == 4 and "tensorrt-8.6.0-NVIDIA_H200-sm9.0-580.cache" in names
    exact = str(tmp_path / "mine.cache")
    assert str(engine.timing_file(exact, "tensorrt", "8.6.0", HOPPER)) == exact


def test_the_facts_of_an_engine_are_readable_by_anyone(net: Net, tmp_path: Path) -> None:
    built(net(), tmp_path / "engine", options())
    told = json.loads((tmp_path / "engine" / engine.FACTS).read_text())
    assert told["library"] == "tensorrt_rtx" and told["precision"] == "fp32"
