"""ONNX Runtime on GPUs, as far as it goes without one: which node ran where, I/O binding, options,
and the reasons given where a provider cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conftest import PROJECT
from onnx import TensorProto, helper, numpy_helper

from farm.config.loader import load_matrix
from farm.engine.checks import require_packages
from farm.errors import InputError, StepFailed, TransientFailure
from farm.plan import make_plan
from farm.runtimes.onnxruntime import cuda, placement, providers, tensorrt
from farm.runtimes.onnxruntime.binding import BoundSession, is_fixed
from farm.runtimes.onnxruntime.options import TensorRtProviderOptions, cuda_options
from farm.runtimes.onnxruntime.placement import ExecutedNode, fallen_back, of_shapes, summary
from farm.runtimes.tensorrt.cuda import has_gpu
from farm.specs import CachePath, Dims, EngineOptions, Shape
from farm.store import Store

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
OTHER = "AzureExecutionProvider"  # a provider that this build has, and that takes no such node
PEAKS = PROJECT / "matrices" / "sources" / "peaks.onnx"

FIXED = Shape("fixed", *[Dims(1, 3, 8, 8)] * 3)
DYNAMIC = Shape("dynamic", Dims(1, 3, 8, 8), Dims(1, 3, 8, 16), Dims(4, 3, 16, 16))


def options(shape: Shape = FIXED, runtime: str = "onnxruntime_cuda", **own: Any) -> EngineOptions:
    precision, workspace = own.pop("precision", "fp32"), own.pop("workspace", None)
    known = tuple(sorted(own.items()))
    return EngineOptions(runtime, precision, shape, workspace, known)


def node(operator: str, inputs: str, output: str, name: str = "", **attributes: Any) -> Any:
    return helper.make_node(operator, inputs.split(), [output], name=name, **attributes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With `source.onnx`: `seen` [1, 4, 8, 8] by a convolution, reshaped to a height that is taken
    from the images' shape, and `places` of its positive values, of an extent known afterwards."""
    values = {
        "weights": np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32),
        "two": np.array(2),
        "first": np.array([0]),
        "begin": np.array([1, 4]),
        "rest": np.array([-1]),
    }
    nodes = [
        node("Shape", "images", "shape", "shape"),
        node("Gather", "shape two", "height", "height"),
        node("Unsqueeze", "height first", "row", "row"),
        node("Concat", "begin row rest", "target", "target", axis=0),
        node("Conv", "images weights", "c", "conv", pads=[1] * 4),
        node("Relu", "c", "seen", "relu"),
        node("Reshape", "seen target", "again", "reshape"),
        node("NonZero", "again", "places", "places"),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])
    outputs = [
        helper.make_tensor_value_info("places", TensorProto.INT64, [4, None]),
        helper.make_tensor_value_info("seen", TensorProto.FLOAT, [1, 4, 8, 8]),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "g", [images], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "source.onnx")
    providers.prepare(tmp_path / "source.onnx", tmp_path)
    return tmp_path


# ---------------------------------------------------------------- which node ran where


def test_what_ran_on_the_provider_that_was_asked_for_is_well(folder: Path) -> None:
    facts = providers.build(folder, [(CPU, {})], options(), allow=False)
    assert facts.fallback == ""
    assert {"NonZero", "Reshape"} <= set(facts.operators)
    assert not {"Shape", "Gather"} & set(facts.operators)  # of shapes alone
    assert providers.read(folder) == facts


def test_nodes_that_ran_elsewhere_are_counted_by_operator_and_provider(folder: Path) -> None:
    with pytest.raises(StepFailed) as failed:
        providers.build(folder, [(OTHER, {}), (CPU, {})], options(), allow=False)
    said = str(failed.value)
    assert said.startswith(f"some nodes did not run on {OTHER}. {CPU}: ")
    for operator in ("1 NonZero", "1 Conv", "1 Reshape"):
        assert operator in said
    for of_shape in ("Shape", "Gather", "Unsqueeze", "Concat"):
        assert f"1 {of_shape}" not in said
    assert "{onnxruntime_cuda: {allow_fallback: true}}" in said


def test_a_fall_back_that_is_allowed_is_told(folder: Path) -> None:
    facts = providers.build(folder, [(OTHER, {}), (CPU, {})], options(), allow=True)
    assert "1 NonZero" in facts.fallback and CPU in facts.fallback


def test_what_a_detector_computes_counts_and_its_shapes_do_not(tmp_path: Path) -> None:
    providers.prepare(PEAKS, tmp_path)
    model = tmp_path / providers.MODEL
    shapes = of_shapes(onnx.load(str(model)).graph)
    shape = Shape("s", *[Dims(1, 3, 96, 96)] * 3)
    ran = providers.run_profiled(model, [(CPU, {})], options(shape))
    excused = {one.operator for one in ran if one.name in shapes}
    fallen = {one.operator for one in fallen_back(ran, CUDA, shapes)}
    assert "Shape" in excused and "Shape" not in fallen
    assert {"Conv", "TopK"} <= fallen and not {"Conv", "TopK"} & excused


def test_a_file_below_fp32_is_offered_as_it_is(folder: Path, tmp_path: Path) -> None:
    """ONNX Runtime's CPU would widen all of fp16, for the GPU too."""
    from farm.precision import region, typed

    source, place = tmp_path / "fp16.onnx", tmp_path / "prepared"
    place.mkdir()
    model = onnx.load(tmp_path / "source.onnx")
    region.prepare(model.graph)
    assert typed.reduce_precision(model, "fp16", ()) == ["conv"]
    model.graph.node[0].name = ""
    onnx.save(model, source)
    providers.prepare(source, place)
    before, after = (onnx.load(path).graph for path in (source, place / "model.onnx"))
    assert [node.op_type for node in after.node] == [node.op_type for node in before.node]
    assert all(node.name for node in after.node)
    (conv,) = [node for node in after.node if node.op_type == "Conv"]
    (weights,) = [one for one in after.initializer if one.name == conv.input[1]]
    assert weights.data_type == TensorProto.FLOAT16


def graph_of(*nodes: Any) -> onnx.GraphProto:
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, None)
    constant = numpy_helper.from_array(np.array(1.0, np.float32), "one")
    return helper.make_graph(list(nodes), "g", [images], [], [constant])


def test_what_takes_a_value_of_the_image_is_not_of_shapes() -> None:
    graph = graph_of(
        node("Shape", "images", "s", "shape"),
        node("Cast", "s", "f", "cast", to=TensorProto.FLOAT),
        node("Mul", "f one", "scale", "of shapes"),
        node("Mul", "images one", "m", "of the image"),
        node("Add", "m scale", "both", "of both"),
        node("Shape", "both", "t", "shape again"),
    )
    assert of_shapes(graph) == {"shape", "cast", "of shapes", "shape again"}


def test_a_node_without_a_name_has_the_one_that_a_profile_gives_it(tmp_path: Path) -> None:
    graph = graph_of(node("Shape", "images", "s"), node("Relu", "images", "r"))
    output = helper.make_tensor_value_info("s", TensorProto.INT64, [4])
    graph.output.extend([output, helper.make_tensor_value_info("r", TensorProto.FLOAT, None)])
    free = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])
    graph.input[0].CopyFrom(free)
    opsets = [helper.make_opsetid("", 17)]
    path = tmp_path / "nameless.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    ran = providers.run_profiled(path, [(CPU, {})], options())
    assert {one.name for one in ran} == {"Shape_0", "Relu_1"}
    assert [one.operator for one in fallen_back(ran, CUDA, of_shapes(graph))] == ["Relu"]


def test_a_name_that_two_nodes_have_excuses_neither() -> None:
    graph = graph_of(node("Shape", "images", "s", "twice"), node("Relu", "images", "r", "twice"))
    assert of_shapes(graph) == set()


def test_a_branch_is_not_taken_for_shapes_alone() -> None:
    branch = helper.make_graph([node("Relu", "images", "r")], "then", [], [])
    graph = graph_of(node("If", "one", "x", "if", then_branch=branch, else_branch=branch))
    assert of_shapes(graph) == set()


def test_fallen_nodes_are_told_by_provider_the_most_first() -> None:
    fallen = [
        ExecutedNode("a", "Cast", CPU),
        ExecutedNode("b", "NonZero", CPU),
        ExecutedNode("c", "NonZero", CPU),
    ]
    text = f"{CPU}: 2 NonZero, 1 Cast; {CUDA}: 1 TopK"
    assert summary([*fallen, ExecutedNode("d", "TopK", CUDA)]) == text


def test_copies_between_devices_are_no_nodes_of_the_model(tmp_path: Path) -> None:
    def event(name: str, operator: str, provider: str) -> str:
        args = f'{{"op_name": "{operator}", "provider": "{provider}"}}'
        return f'{{"cat": "Node", "name": "{name}_kernel_time", "args": {args}}}'

    events = [event("m", "MemcpyToHost", CUDA), event("n", "TopK", CPU), event("n", "TopK", CPU)]
    path = tmp_path / "profile.json"
    path.write_text(f"[{', '.join(events)}]")
    assert placement.read(path) == [ExecutedNode("n", "TopK", CPU)]


# ---------------------------------------------------------------- I/O binding


def images(seed: int, shape: tuple[int, ...] = (1, 3, 8, 8)) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def plain(folder: Path) -> ort.InferenceSession:
    return providers.session(folder / providers.MODEL, [(CPU, {})], 1)


def test_a_bound_session_gives_what_a_plain_one_gives(plain: ort.InferenceSession) -> None:
    bound = BoundSession(plain, "cpu")
    extents = set()
    for seed in range(4):  # the extent of `places` is another each time
        outputs = bound.run(images(seed))
        expected = plain.run(["places", "seen"], {"images": images(seed)})
        assert list(outputs) == ["places", "seen"]
        for found, wanted in zip(outputs.values(), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
        extents.add(outputs["places"].shape)
    assert len(extents) > 1
    bound.close()


def test_outputs_are_the_callers_own(plain: ort.InferenceSession) -> None:
    bound = BoundSession(plain, "cpu")
    first = bound.run(images(0))["seen"]
    kept = first.copy()
    bound.run(images(1))
    np.testing.assert_array_equal(first, kept)


def test_only_outputs_of_known_extent_have_buffers_of_their_own(
    plain: ort.InferenceSession,
) -> None:
    assert [is_fixed(output) for output in plain.get_outputs()] == [False, True]


def test_images_of_another_shape_get_another_buffer() -> None:
    session = providers.session(PEAKS, [(CPU, {})], 1)
    bound = BoundSession(session, "cpu")
    names = [output.name for output in session.get_outputs()]
    for shape in ((1, 3, 96, 96), (2, 3, 96, 128), (1, 3, 96, 96)):
        found = bound.run(images(0, shape))
        wanted = session.run(names, {session.get_inputs()[0].name: images(0, shape)})
        for name, value in zip(names, wanted, strict=True):
            np.testing.assert_array_equal(found[name], value)


def test_a_run_is_captured_only_where_nothing_of_it_is_known_afterwards(
    folder: Path, plain: ort.InferenceSession
) -> None:
    providers.build(folder, [(CPU, {})], options(), allow=False)
    why = cuda._not_capturable
    assert why(folder, options(DYNAMIC), plain) == "the shape is not fixed"
    assert why(folder, options(), plain) == "the model has NonZero"
    facts = folder / providers.FACTS
    facts.write_text(facts.read_text().replace('"NonZero"', '"Relu"'))
    assert why(folder, options(), plain) == "the size of places is not known beforehand"


# ---------------------------------------------------------------- options


def test_fp32_is_fp32_and_free_axes_are_not_searched_for_each_size() -> None:
    assert cuda_options(options())["use_tf32"] == 0
    assert cuda_options(options())["cudnn_conv_algo_search"] == "EXHAUSTIVE"
    assert cuda_options(options(DYNAMIC))["cudnn_conv_algo_search"] == "HEURISTIC"


def tensorrt_options(**own: Any) -> dict[str, Any]:
    asked = options(own.pop("shape", FIXED), "onnxruntime_tensorrt", **own)
    known = TensorRtProviderOptions.read(asked)
    return tensorrt.provider_options(asked, known, "images", Path("/engine/cache"))


def test_tensorrts_options_follow_the_cell() -> None:
    assert tensorrt_options(workspace=1 << 30) == {
        "device_id": 0,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": "/engine/cache",
        "trt_max_workspace_size": 1 << 30,
    }
    profile = tensorrt_options(shape=DYNAMIC)
    assert profile["trt_profile_min_shapes"] == "images:1x3x8x8"
    assert profile["trt_profile_opt_shapes"] == "images:1x3x8x16"
    assert profile["trt_profile_max_shapes"] == "images:4x3x16x16"
    # With the flag the whole network may be lowered; without it the file says what is.
    assert "trt_fp16_enable" not in tensorrt_options(precision="fp16")
    assert tensorrt_options(precision="fp16", builder_flags=True)["trt_fp16_enable"] is True
    own = tensorrt_options(optimization_level=5, provider_options={"trt_auxiliary_streams": 0})
    assert (own["trt_builder_optimization_level"], own["trt_auxiliary_streams"]) == (5, 0)


def test_kernel_times_are_kept_apart_by_version(tmp_path: Path) -> None:
    asked = options(runtime="onnxruntime_tensorrt", timing_cache=CachePath(str(tmp_path)))
    place = TensorRtProviderOptions.read(asked).timing_cache
    kept = tensorrt._timing_folder(place)
    assert kept == tmp_path / f"onnxruntime-{ort.__version__}"
    built = tmp_path / "built"
    built.mkdir()
    (built / "TensorrtExecutionProvider_cache_sm90.timing").write_bytes(b"times")
    tensorrt._copy(built, kept)
    assert [path.read_bytes() for path in kept.iterdir()] == [b"times"]


def test_int8_by_a_flag_alone_is_refused(tmp_path: Path) -> None:
    asked = options(runtime="onnxruntime_tensorrt", precision="int8", builder_flags=True)
    with pytest.raises(StepFailed, match="needs a calibration"):
        tensorrt.build(tmp_path / "source.onnx", tmp_path, asked)


def test_an_unknown_option_has_its_nearest(folder: Path) -> None:
    with pytest.raises(InputError, match="no option 'cuda_grap'; did you mean 'cuda_graph'"):
        cuda.build(folder / "source.onnx", folder, options(cuda_grap=True))


# ---------------------------------------------------------------- without a GPU, or a provider


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
@pytest.mark.parametrize("module", [cuda, tensorrt])
def test_without_a_gpu_the_driver_says_so(folder: Path, module: Any) -> None:
    pytest.importorskip("cuda.bindings", reason="asks the driver")
    for call in (
        lambda: module.build(folder / "source.onnx", folder, options()),
        lambda: module.open_engine(folder, options(), 1),
    ):
        with pytest.raises(TransientFailure, match="no NVIDIA GPU here"):
            call()


@pytest.mark.parametrize("provider", [CUDA, "TensorrtExecutionProvider"])
def test_a_provider_that_this_build_has_not_is_never_replaced(folder: Path, provider: str) -> None:
    if provider in ort.get_available_providers():
        pytest.skip("this is onnxruntime-gpu")
    with pytest.raises(TransientFailure) as failed:
        providers.build(folder, [(provider, {}), (CPU, {})], options(), allow=True)
    assert f"has no {provider}" in str(failed.value)
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in str(failed.value)


def test_lack_of_memory_is_of_the_moment_and_all_else_is_not() -> None:
    for words in ("CUDA failure 2: out of memory", "CUDNN_STATUS_ALLOC_FAILED"):
        with pytest.raises(TransientFailure), providers.failures():
            raise RuntimeError(words)
    with pytest.raises(RuntimeError, match="no kernel"), providers.failures():
        raise RuntimeError("no kernel")


# ---------------------------------------------------------------- with a GPU

on_a_gpu = pytest.mark.skipif(
    not has_gpu() or CUDA not in ort.get_available_providers(),
    reason="needs an NVIDIA GPU and onnxruntime-gpu",
)
DETECTOR = Shape("d", Dims(1, 3, 96, 96), Dims(1, 3, 160, 160), Dims(2, 3, 160, 192))


def differs_from_the_cpu(bound: Any, shape: tuple[int, ...]) -> float:
    """The largest difference of the detector's boxes and scores."""
    plain = ort.InferenceSession(str(PEAKS), providers=[CPU])
    names = [output.name for output in plain.get_outputs()]
    wanted = dict(zip(names, plain.run(names, {"images": images(7, shape)}), strict=True))
    return float(np.abs(bound.run(images(7, shape))["dets"] - wanted["dets"]).max())


@on_a_gpu
@pytest.mark.parametrize("module", [cuda, tensorrt])
def test_a_detector_runs_on_the_gpu_as_on_the_cpu(tmp_path: Path, module: Any) -> None:
    asked = options(DETECTOR, module.__name__.rpartition(".")[2], workspace=1 << 30)
    assert module.build(PEAKS, tmp_path, asked) == {"fallback": None}
    kept = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    bound = module.open_engine(tmp_path, asked, 1)
    for shape in ((1, 3, 160, 160), (2, 3, 96, 128)):
        assert differs_from_the_cpu(bound, shape) < 1e-2
    bound.close()
    assert kept == sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))


@on_a_gpu
def test_a_captured_run_gives_what_a_plain_one_gives(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [node("Conv", "images weights", "c", "conv", pads=[1] * 4), node("Relu", "c", "r", "relu")],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(images(0, (4, 3, 3, 3)), "weights")],
    )
    source = tmp_path / "source.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), source)
    cuda.build(source, tmp_path, options(cuda_graph=True))
    captured = cuda.open_engine(tmp_path, options(cuda_graph=True), 1)
    plain = cuda.open_engine(tmp_path, options(), 1)
    assert captured.uses_cuda_graph and not plain.uses_cuda_graph
    for seed in range(4):
        found, wanted = captured.run(images(seed))["r"], plain.run(images(seed))["r"]
        np.testing.assert_allclose(found, wanted, atol=1e-5)


# ---------------------------------------------------------------- in a matrix

MATRIX = """\
name: m
models: {a: {config: a.py, checkpoint: a.pth}}
shapes: {s: {opt: 160x160}}
runtimes: [onnxruntime_cuda, onnxruntime_tensorrt]
workspaces: [1GiB, 4GiB]
targets: {l4: {accelerator: L4, driver: 580}}
runtime_options:
  onnxruntime_cuda: {allow_fallback: true, provider_options: {gpu_mem_limit: 8000000000}}
dataset: {type: synthetic}
"""


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    for name in ("a.py", "a.pth"):
        (tmp_path / name).write_text("x = 1\n")
    path = tmp_path / "m.yaml"
    path.write_text(MATRIX)
    return path


def test_a_workspace_is_tensorrts_axis_and_not_cudas(matrix: Path) -> None:
    cells = [cell.id for cell in load_matrix(matrix).cells]
    assert cells == [
        "a.op17.s.fp32.onnxruntime_cuda.l4",
        "a.op17.s.fp32.onnxruntime_tensorrt.ws1GiB.l4",
        "a.op17.s.fp32.onnxruntime_tensorrt.ws4GiB.l4",
    ]


def test_a_wrong_option_is_told_at_its_line(matrix: Path) -> None:
    matrix.write_text(MATRIX.replace("allow_fallback", "allow_fallbak"))
    with pytest.raises(InputError, match=r"m\.yaml:8: .*did you mean 'allow_fallback'"):
        load_matrix(matrix)


def test_where_fall_back_is_allowed_the_engine_is_another(matrix: Path) -> None:
    allowed = make_plan(load_matrix(matrix))
    matrix.write_text(MATRIX.replace("allow_fallback: true, ", ""))
    strict = make_plan(load_matrix(matrix))
    builds = [{step.key for step in plan.of_stage("build")} for plan in (allowed, strict)]
    assert len(builds[0] & builds[1]) == 2  # those of the other runtime


def test_whose_engines_they_are_is_in_their_key(matrix: Path) -> None:
    builds = make_plan(load_matrix(matrix)).of_stage("build")
    found = {tuple(name for name, _ in step.toolchain) for step in builds}
    assert found == {("onnxruntime-gpu",), ("onnxruntime-gpu", "tensorrt")}


def test_a_machine_without_the_package_says_so_before_any_work(
    matrix: Path, tmp_path: Path
) -> None:
    steps = make_plan(load_matrix(matrix)).steps.values()
    if any(("onnxruntime-gpu", "absent") in step.toolchain for step in steps):
        with pytest.raises(InputError, match=r"onnxruntime-gpu.* not installed"):
            require_packages(steps, Store(tmp_path))
