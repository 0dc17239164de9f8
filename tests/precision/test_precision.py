"""Precisions: typed and quantised files that every runtime takes, and what they cost in AP."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
from conftest import PROJECT, SHARED, Farm
from onnx import TensorProto, helper, numpy_helper

from farm import catalog, specs
from farm.cli.results import Results
from farm.config.loader import load_matrix
from farm.config.schema import VerifySpec
from farm.datasets.synthetic import CLASSES
from farm.detections.compare import agreement
from farm.engine.executors import Choices
from farm.errors import InputError, StepFailed
from farm.plan import Plan, make_plan
from farm.precision import auto, quantised, region, typed
from farm.results.rows import make_rows
from farm.runtimes.onnxruntime import cpu_files
from farm.runtimes.openvino import adapter
from farm.store import Store
from farm.sweep import Sweep, run_sweep

LOWER = ("fp16", "bf16", "int8")

MATRIX = """\
name: precise
models:
  onestage: {{config: {demo}/onestage.py, checkpoint: {demo}/onestage.pth}}
  twostage: {{config: {demo}/twostage.py, checkpoint: {demo}/twostage.pth}}
opsets: [17]
shapes: {{fixed: {{opt: 160x160}}}}
precisions: [fp32, fp16, bf16, int8]
runtimes: [onnxruntime, openvino]
dataset: {{type: synthetic, count: 16, seed: 7, size: 160}}
measure: {{seconds: 0.1, max_seconds: 5, warmup_seconds: 0, min_samples: 10}}
compare: false
"""

Facts = Callable[[str], specs.ModelFacts]


def write(folder: Path) -> Path:
    path = folder / "precise.yaml"
    path.write_text(MATRIX.format(demo=PROJECT / "matrices" / "demo"))
    return path


def known(key: str) -> specs.ModelFacts:
    return specs.ModelFacts(("circle",), False, "the same pipeline")


def plan_of(folder: Path, *overrides: str, facts: Facts = known) -> Plan:
    return make_plan(load_matrix(write(folder), overrides), facts)


def run(folder: Path, results: Path, *overrides: str) -> Sweep:
    matrix = load_matrix(write(folder), overrides)
    with contextlib.redirect_stdout(io.StringIO()):
        return run_sweep(matrix, Results(results), Choices(executor="inline", mlflow=False))


# The whole way, once: both demo detectors, every precision, both runtimes.


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("precise")


@pytest.fixture(scope="module")
def sweep(results: Path) -> Sweep:
    return run(results, results / "results")


def rows_of(sweep: Sweep) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    return {(row["model"], row["precision"], row["runtime"]): row for row in sweep.rows}


def file_of(sweep: Sweep, results: Path, model: str, precision: str) -> Path:
    key = rows_of(sweep)[model, precision, "openvino"][
        "export_key" if precision == "fp32" else "convert_key"
    ]
    stage = "export" if precision == "fp32" else "convert"
    return Store(results / "results" / "store").path(specs.Ref(stage, key)) / "model.onnx"


@pytest.mark.slow
def test_every_precision_keeps_its_ap_on_both_runtimes(sweep: Sweep) -> None:
    assert sweep.exit_code == 0, [row["reason"] for row in sweep.rows]
    allowed = {"fp32": 0.001, "fp16": 0.003, "bf16": 0.01, "int8": 0.03}
    for (_, precision, _), row in rows_of(sweep).items():
        assert row["box_ap_drop"] <= allowed[precision], row["cell"]
        assert row["box_ap"] > 0.5


@pytest.mark.slow
def test_tensorrt_rtx_builds_engines_of_every_precision(tmp_path: Path) -> None:
    """From the same typed files, where the final suppression is the host's."""
    pytest.importorskip("tensorrt_rtx_bindings")
    sweep = run(
        tmp_path, tmp_path / "results", "runtimes=[tensorrt_rtx]", "dataset.count=4",
        "targets={l4: {accelerator: L4, driver: 1}}",
        "shapes={fixed: {opt: 160x160},"
        " free: {min: 1x3x128x128, opt: 1x3x160x160, max: 2x3x192x192}}",
    )  # fmt: skip
    one = [row for row in sweep.rows if row["model"] == "onestage"]
    assert {(row["precision"], row["shape"]) for row in one} == {
        (precision, shape) for precision in ("fp32", *LOWER) for shape in ("fixed", "free")
    }
    for row in one:
        assert row["status"] == "pending" and "L4" in row["reason"], row["reason"]
        assert row["engine_bytes"] > 100_000 and row["postprocess"] == "host"
    size = {row["precision"]: row["engine_bytes"] for row in one if row["shape"] == "fixed"}
    assert max(size["fp16"], size["bf16"]) < 0.9 * size["fp32"]  # weights are what they say
    for row in sweep.rows:
        if row["model"] == "twostage":
            assert "no NonMaxSuppression" in row["reason"] and row["build_key"] is None


@pytest.mark.slow
def test_a_lower_precision_is_not_fp32_once_more(sweep: Sweep) -> None:
    rows = rows_of(sweep)
    for model in ("onestage", "twostage"):
        for runtime in ("onnxruntime", "openvino"):
            moved = [rows[model, one, runtime]["max_score_diff"] for one in ("fp32", *LOWER)]
            assert moved[0] < 1e-5 < min(moved[1:])


QDQ = ("QuantizeLinear", "DequantizeLinear")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("model", ["onestage", "twostage"])
def test_what_decodes_and_suppresses_boxes_stays_fp32(
    sweep: Sweep, results: Path, model: str, precision: str
) -> None:
    before = onnx.load(file_of(sweep, results, model, "fp32")).graph
    network = {before.node[i].name for i in region.network(before, ())}
    after = onnx.load(file_of(sweep, results, model, precision)).graph
    lowered = values_in(after, typed.TYPES[precision])
    tail = [node for node in after.node if node.name not in network and node.op_type != "Cast"]
    kinds = Counter(node.op_type for node in tail)
    assert kinds["NonMaxSuppression"] and kinds["TopK"] and kinds["Exp"]
    assert kinds["RoiAlign"] or model == "onestage"
    for node in tail:
        assert not lowered.intersection(node.input), (node.op_type, node.name)
    weighted = [node for node in after.node if node.op_type in region.WEIGHTED]
    assert len(weighted) > 15 and all(set(node.input) <= lowered for node in weighted)


def values_in(graph: onnx.GraphProto, kind: int) -> set[str]:
    """Values and weights of that type, told from the casts; nothing else makes or ends one."""
    found = {one.name for one in graph.initializer if one.data_type == kind}
    for node in graph.node:
        to = [one.i for one in node.attribute if one.name == "to"]
        if to == [kind] or (node.op_type != "Cast" and found.intersection(node.input)):
            found.update(node.output)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("model", ["onestage", "twostage"])
def test_int8_pairs_stand_only_before_layers(sweep: Sweep, results: Path, model: str) -> None:
    graph = onnx.load(file_of(sweep, results, model, "int8")).graph
    layers = [node for node in graph.node if node.op_type in region.WEIGHTED]
    read = {name for node in layers for name in node.input}
    pairs = [node for node in graph.node if node.op_type == "DequantizeLinear"]
    assert len(layers) > 15 and len(pairs) > 30
    assert all(node.output[0] in read for node in pairs)
    made = {node.output[0] for node in pairs}
    assert all({*node.input[:2]} <= made for node in layers)


@pytest.mark.slow
def test_int8_is_as_tensorrt_wants_it(sweep: Sweep, results: Path) -> None:
    """Symmetric, zero points 0, weights per channel, and no quantised bias."""
    model = onnx.load(file_of(sweep, results, "twostage", "int8"))
    onnx.checker.check_model(model, full_check=True)
    weights = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in QDQ]
    assert len(pairs) > 60
    for node in pairs:
        zero = weights[node.input[2]]
        assert zero.dtype == np.int8 and not zero.any()
    quantised = [node for node in pairs if node.input[0] in weights]
    assert all(weights[node.input[1]].ndim == 1 for node in quantised)  # one for each channel
    assert all(weights[node.input[0]].ndim > 1 for node in quantised)  # no bias
    assert {node.op_type for node in quantised} == {"QuantizeLinear"}


@pytest.mark.slow
def test_openvino_runs_each_layer_in_the_files_type(sweep: Sweep, results: Path) -> None:
    # Signed or not, as the CPU's kernels are.
    wanted = {"fp32": {"f32"}, "fp16": {"f16"}, "bf16": {"bf16"}, "int8": {"i8", "u8"}}
    native = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision, types in wanted.items():
        if precision.upper() not in native:
            continue  # this CPU widens it
        blob = built(sweep, results, precision) / "engine" / "model.blob"
        hint = "f32" if precision in ("fp32", "int8") else "dynamic"
        engine = ov.Core().import_model(
            io.BytesIO(blob.read_bytes()), "CPU", {"INFERENCE_PRECISION_HINT": hint}
        )
        infos = [op.get_rt_info() for op in engine.get_runtime_model().get_ops()]
        found = {
            info["runtimePrecision"].astype(str)
            for info in infos
            if "layerType" in info and info["layerType"].astype(str) == "Convolution"
        }
        assert found and found <= types, precision


def built(sweep: Sweep, results: Path, precision: str, runtime: str = "openvino") -> Path:
    key = rows_of(sweep)["onestage", precision, runtime]["build_key"]
    return Store(results / "results" / "store").path(specs.Ref("build", key))


@pytest.mark.slow
def test_onnx_runtime_runs_int8_in_int8_kernels(sweep: Sweep, results: Path) -> None:
    """All but the last layers, whose scores and boxes stay exact."""
    engine = onnx.load(built(sweep, results, "int8", "onnxruntime") / "engine" / "model.onnx")
    kinds = Counter(node.op_type for node in engine.graph.node)
    assert kinds["QLinearConv"] >= 30
    assert kinds["Conv"] + kinds["FusedConv"] <= 8  # classes and boxes of four levels


@pytest.mark.slow
def test_auto_keeps_the_layers_in_fp32_that_clipping_harms(sweep: Sweep, results: Path) -> None:
    demo = PROJECT / "matrices" / "demo"
    words = (
        f"models={{onestage: {{config: {demo}/onestage.py, checkpoint: {demo}/onestage.pth}}}}",
        "precisions=[int8]",
        "runtimes=[onnxruntime]",
        "name=clipped",
        "int8={percentile: 99, auto: {max_ap_drop: 3, images: 2}}",
    )
    clipped = run(results, results / "results", *words)
    record = Store(results / "results" / "store").record(
        specs.Ref("convert", clipped.rows[0]["convert_key"])
    )
    assert record is not None and clipped.exit_code == 0
    figures, kept = record.figures, record.figures["kept_fp32"]
    tried = figures["auto"]
    assert tried[0]["kept"] == 0 and tried[0]["ap_drop"] > 10  # naive int8 loses more
    assert len(tried) == figures["auto_evaluations"] <= auto.EVALUATIONS
    accepted = [one for one in tried if one["ap_drop_high"] <= 3]
    assert min(one["kept"] for one in accepted) == len(kept) and 0 < len(kept) < 45
    assert figures["auto_metric"] == "box_ap" and figures["auto_images"] == 8
    assert clipped.rows[0]["box_ap_drop"] < 0.1
    model = onnx.load(
        Store(results / "results" / "store").path(specs.Ref("convert", record.key)) / "model.onnx"
    )
    weights = {one.name for one in model.graph.initializer}
    plain = {node.name for node in model.graph.node if set(node.input[1:2]) & weights}
    assert set(kept) <= plain
    naive = rows_of(sweep)["onestage", "int8", "onnxruntime"]
    assert clipped.rows[0]["kept_fp32"] == len(kept) and naive["kept_fp32"] == 0


# Graphs made here: what is lowered, kept, refused.


def small(activation: str = "Relu") -> onnx.ModelProto:
    """images -> Conv -> Relu -> Conv -> Exp -> out, with a shape chain and a named value."""
    rng = np.random.default_rng(1)
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32), "w1"),
        numpy_helper.from_array(rng.normal(0, 0.3, (4,)).astype(np.float32), "b1"),
        numpy_helper.from_array(rng.normal(0, 0.3, (2, 4, 1, 1)).astype(np.float32), "w2"),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
    ]
    nodes = [
        helper.make_node("Conv", ["images", "w1", "b1"], ["a"], "first"),
        helper.make_node(activation, ["a"], ["b"]),
        helper.make_node("Resize", ["b", "", "scales"], ["c"], mode="nearest"),
        helper.make_node("Conv", ["c", "w2"], ["d"], "last"),
        helper.make_node("Exp", ["d"], ["out"], "decode"),
        helper.make_node("Add", ["b", "b"], ["twice"], "aside"),
    ]
    ends = ("out", [1, 2, 12, 12]), ("twice", [1, 4, 6, 6])
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("images", 1, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(name, 1, dims) for name, dims in ends], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def outputs(model: onnx.ModelProto | bytes) -> list[np.ndarray[Any, Any]]:
    import onnxruntime as ort

    file = model if isinstance(model, bytes) else model.SerializeToString()
    images = np.random.default_rng(0).uniform(-1, 1, (1, 3, 8, 8)).astype(np.float32)
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"images": images}))


def near(model: onnx.ModelProto | bytes, tolerance: float) -> None:
    for found, wanted in zip(outputs(model), outputs(small()), strict=True):
        assert found.dtype == np.float32
        assert 0 < np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


def test_only_the_network_is_lowered_and_casts_stand_at_its_borders() -> None:
    model = small()
    region.prepare(model.graph)
    assert typed.reduce_precision(model, "fp16", ()) == ["first", "Relu_1", "Resize_2", "last"]
    onnx.checker.check_model(model, full_check=True)
    types = {one.name: one.data_type for one in model.graph.initializer}
    half = TensorProto.FLOAT16
    assert types == {"scales": 1, "w1_fp16": half, "b1_fp16": half, "w2_fp16": half}
    casts = [(n.input[0], n.output[0]) for n in model.graph.node if n.op_type == "Cast"]
    assert casts == [("images", "images_fp16"), ("b_fp16", "b"), ("d_fp16", "d")]
    near(model, 2e-3)


@pytest.mark.parametrize("operator", ["Exp", "Softmax", "Sqrt"])
def test_what_half_precision_hurts_stays_fp32_between_layers(operator: str) -> None:
    model = small(operator)
    region.prepare(model.graph)
    assert typed.reduce_precision(model, "fp16", ()) == ["first", "Resize_2", "last"]


# The farm's own arithmetic with products, exported: a function, and its layers.

Tail = Callable[[Any], tuple[Any, Sequence[Any]]]


def matrix_nms(torch: Any) -> tuple[Any, Sequence[Any]]:
    """SOLO's: masks from a convolution, and the pixels that each two of them share."""
    from farm.sources.mmdet.segments.solo import decayed

    cfg = SimpleNamespace(kernel="gaussian", sigma=2.0, filter_thr=0.05)

    def of(features: Any) -> Any:
        masks = (features > 0).float().flatten(2)
        areas = masks.sum(2)
        return decayed(masks, areas, (areas * 0).long(), features.sigmoid().amax((2, 3)), cfg)

    return of, ()


def score_voting(torch: Any) -> tuple[Any, Sequence[Any]]:
    """PAA's: boxes averaged by weights, coordinates of many hundred pixels."""
    from farm.sources.mmdet.candidates import Candidates
    from farm.sources.mmdet.dense.anchors import Voters, voted

    def of(features: Any) -> Any:
        low = features.flatten(2)[..., :2] * 700
        boxes = torch.cat([low, low + 300], 2)
        scores = features.flatten(2)[..., 2].sigmoid()
        best = Candidates(boxes[:, :3], scores[:, :3], (scores[:, :3] * 0).long())
        found = Voters(best.boxes, best.scores, best.labels, boxes, scores.unsqueeze(2))
        return voted(SimpleNamespace(with_score_voting=True), found, best).boxes

    return of, ()


def features_of_boxes(torch: Any) -> tuple[Any, Sequence[Any]]:
    """Below opset 16: samples in narrow boxes as products; a layer reads what is made of them."""
    from farm.sources.mmdet.patches import roi_align

    layer = SimpleNamespace(output_size=(3, 3), spatial_scale=0.25, aligned=True, sampling_ratio=0)
    last = torch.nn.Linear(8 * 9, 2)

    def of(features: Any) -> Any:
        boxes = features.flatten(1)[0, :16].abs().reshape(4, 4).cumsum(1)
        images = (boxes[:, 0] * 0).long()
        with roi_align.patch_roi_align(13):
            found = roi_align.roi_align(features, boxes, images, layer)
        return last(found.flatten(1))

    return of, [last]


@pytest.mark.parametrize("tail", [matrix_nms, score_voting, features_of_boxes])
def test_products_of_computed_values_behind_the_network_stay_fp32(tail: Tail) -> None:
    model = exported(tail)
    region.prepare(model.graph)
    products = {node.name for node in model.graph.node if node.op_type == "MatMul"}
    assert products and not products.intersection(region.layers(model.graph))
    lowered = typed.reduce_precision(model, "fp16", ())
    assert not products.intersection(lowered) and "/first/Conv" in lowered
    values = values_in(model.graph, TensorProto.FLOAT16)
    for node in model.graph.node:
        assert node.op_type != "MatMul" or not values.intersection(node.input)


def attention(torch: Any) -> tuple[Any, Sequence[Any]]:
    """Of a transformer: scaled, masked, softmax, projected; with weights not yet folded."""
    query, key, value, last = (torch.nn.Linear(8, 8) for _ in range(4))

    def of(features: Any) -> Any:
        rows = features.flatten(2).transpose(1, 2)
        q, k, v = (
            layer(rows).unflatten(2, (2, 4)).transpose(1, 2) for layer in (query, key, value)
        )
        weights = q @ k.transpose(2, 3) / 2
        weights = weights.masked_fill(rows.sum(2)[:, None, None] > 9, -100.0).softmax(3)
        return last((weights @ v).transpose(1, 2).flatten(2)).sigmoid()

    return of, [query, key, value, last]


@pytest.mark.parametrize("folded", [True, False])
def test_attention_that_a_layer_reads_is_lowered(folded: bool) -> None:
    model = exported(attention, folded)
    region.prepare(model.graph)
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    assert len(products) == 6  # four layers, and queries by keys by values
    lowered = typed.reduce_precision(model, "fp16", ())
    assert {node.name for node in products} <= set(lowered)
    assert not [name for name in lowered if "Softmax" in name or "Div" in name]


def exported(tail: Tail, folded: bool = True) -> onnx.ModelProto:
    """images -> Conv named first -> what `tail` makes of 8 channels."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
            self.ends, layers = tail(torch)
            self.layers = torch.nn.ModuleList(layers)

        def forward(self, images: Any) -> Any:
            return self.ends(self.first(images))

    torch.manual_seed(0)
    file = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Net().eval(), torch.randn(1, 3, 8, 8), file, dynamo=False, opset_version=13,
            do_constant_folding=folded, input_names=["images"],
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


def test_a_kept_layer_stays_fp32_and_its_neighbours_do_not() -> None:
    model = small()
    region.prepare(model.graph)
    lowered = typed.reduce_precision(model, "bf16", region.matching(model.graph, ["la*"]))
    assert lowered == ["first", "Relu_1", "Resize_2"]
    last = next(node for node in model.graph.node if node.name == "last")
    assert list(last.input) == ["c", "w2"]


def test_bf16_on_onnx_runtime_rounds_as_bf16_does(tmp_path: Path) -> None:
    model = small()
    region.prepare(model.graph)
    typed.reduce_precision(model, "bf16", ())
    onnx.save(model, tmp_path / "m.onnx")
    emulated = cpu_files.emulated(tmp_path / "m.onnx")
    near(emulated, 3e-2)
    twice = outputs(emulated)[1]  # Relu's value, added to itself in fp32
    assert not (twice.view(np.uint32) & 0xFFFF).any()  # no bits that bf16 has not


def test_bf16_on_onnx_runtime_is_the_same_file_every_time(tmp_path: Path) -> None:
    """Its casts do not stand in the order of a set, which is another in every process."""
    wide = [f"in{i}" for i in range(8)]
    narrow = [f"{name}_bf16" for name in wide]
    casts = [
        helper.make_node("Cast", [name], [own], to=TensorProto.BFLOAT16)
        for name, own in zip(wide, narrow, strict=True)
    ]
    values = [helper.make_tensor_value_info(name, 1, [1]) for name in wide]
    ends = [helper.make_tensor_value_info("all", TensorProto.BFLOAT16, [8])]
    nodes = [*casts, helper.make_node("Concat", narrow, ["all"], axis=0)]
    model = helper.make_model(helper.make_graph(nodes, "g", values, ends), ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    made = onnx.load_from_string(cpu_files.emulated(tmp_path / "m.onnx")).graph
    widened = [node.input[0] for node in made.node if node.output[0].endswith("_as_fp32")]
    assert widened == narrow


def test_a_layer_that_is_not_there_cannot_be_kept() -> None:
    model = small()
    region.prepare(model.graph)
    with pytest.raises(StepFailed, match=r"no layer is named 'lost'.*'last'"):
        region.matching(model.graph, ["lost"])


def test_a_file_with_a_precision_of_its_own_is_refused() -> None:
    model = small()
    region.prepare(model.graph)
    typed.reduce_precision(model, "fp16", ())
    with pytest.raises(StepFailed, match="has a precision of its own \\(first\\)"):
        region.prepare(model.graph)


def test_weights_beyond_fp16_become_its_end_and_not_infinite() -> None:
    model = small()
    values = np.full((4, 3, 3, 3), 1e6, np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w1"))
    region.prepare(model.graph)
    typed.reduce_precision(model, "fp16", ())
    lowered = next(one for one in model.graph.initializer if one.name == "w1_fp16")
    assert (numpy_helper.to_array(lowered) == 65504).all()


class Ranges(dict[str, Any]):
    """As onnxruntime's TensorsData gives them."""

    def __init__(self, **high: float) -> None:
        from onnxruntime.quantization.calibrate import TensorData

        def data(value: float) -> Any:
            return TensorData(lowest=np.float32(-value), highest=np.float32(value))

        super().__init__({name: data(value) for name, value in high.items()})


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_int8_is_read_with_unsigned_values_which_are_the_same(tmp_path: Path, runtime: str) -> None:
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

    model = small()
    region.prepare(model.graph)
    taken = quantised.quantisable(model.graph)
    assert taken == {"first": "images", "last": "c"}
    assert quantised.inputs_of_additions(model.graph, list(taken)) == []
    ranges = TensorsData(CalibrationMethod.MinMax, Ranges(images=1.0, c=4.0))
    made = quantised.quantise(model, ranges, list(taken))
    near(made, 5e-2)
    onnx.save(made, tmp_path / "m.onnx")
    of_openvino = adapter.file_to_read(tmp_path / "m.onnx", "int8")
    assert isinstance(of_openvino, bytes)
    unsigned = cpu_files.unsigned(tmp_path / "m.onnx") if runtime == "onnxruntime" else of_openvino
    for found, wanted in zip(outputs(unsigned), outputs(made), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    kinds = [one.data_type for one in onnx.load_from_string(unsigned).graph.initializer]
    assert TensorProto.UINT8 in kinds
    assert adapter.file_to_read(tmp_path / "m.onnx", "fp32") == tmp_path / "m.onnx"


NAMES = [f"l{i}" for i in range(113)]


class Judge:
    """Judges choices of NAMES by a rule; the drop itself is 1 less than the end of its interval."""

    def __init__(self, high: Callable[[set[str]], float]) -> None:
        self.high, self.asked = high, list[frozenset[str]]()

    def __call__(self, kept: Sequence[str]) -> auto.Candidate:
        self.asked.append(frozenset(kept))
        high = self.high(set(kept))
        return auto.Candidate(len(kept), high - 1, high)

    def search(self, bound: float = 0.5) -> list[str]:
        kept, tried = auto.search(NAMES, lambda: NAMES, self, bound)
        assert len(tried) == len(self.asked) == len(set(self.asked)) <= auto.EVALUATIONS
        return kept


def lacks(needed: set[str], kept: set[str]) -> float:
    return float(not kept >= needed)


def test_the_search_keeps_few_layers_more_than_it_must() -> None:
    for needed, kept in ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (7, 7), (11, 11), (34, 40)):
        harmful = set(NAMES[:needed])
        found = set(Judge(partial(lacks, harmful)).search())
        assert needed <= len(found) <= kept and harmful <= found, needed
    assert len(Judge(lambda kept: float(len(kept) < 113)).search()) == 113


def test_a_choice_is_judged_by_the_end_of_its_interval() -> None:
    assert Judge(lambda kept: 0.6).search(bound=0.5) == NAMES  # 0.4 less are lost
    assert not Judge(lambda kept: 0.5).search(bound=0.5)


def test_the_search_does_not_take_more_layers_in_fp32_for_less_harm() -> None:
    """Between 4 and 8 layers one count is accepted, and of 4 of them one is one too many."""
    worse = Judge(lambda kept: float(len(kept) not in (5, 8, 16)))
    assert len(worse.search()) == 5
    worse = Judge(lambda kept: 0.1 * len(kept) if {"l0", "l3"} <= kept else 1.0)
    assert set(worse.search(bound=0.4)) == {"l0", "l3"}


def test_layers_are_ranked_only_if_some_must_be_kept() -> None:
    def rank() -> list[str]:
        raise AssertionError

    judge = Judge(lambda kept: 0.0)
    assert auto.search(NAMES, rank, judge, 0.5) == ([], [auto.Candidate(0, -1, 0)])


def test_noise_is_ranked_only_at_ends_that_a_layer_reaches_within_the_network() -> None:
    model = small()
    region.prepare(model.graph)
    assert auto.reached_outputs(model.graph) == {"first": {"b", "d"}, "last": {"d"}}


# Planning: keys, sharing, refusals.


def test_convert_is_shared_by_runtimes_and_fp32_has_none(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert len(plan.of_stage("convert")) == 2 * 3
    assert len(plan.of_stage("export")) == 2
    assert len(plan.of_stage("build")) == 2 * 4 * 2
    assert len(plan.of_stage("prepare")) == 2  # the data set, and the calibration images
    for cell in plan.cells:
        assert ("convert" in cell.steps) == (cell.cell.precision != "fp32")
        build = plan.steps[cell.steps["build"]].inputs
        assert isinstance(build, specs.BuildInputs)
        file = cell.steps.get("convert", cell.steps["export"])
        assert build.exported.key == file


def test_a_builder_with_flags_lowers_the_fp32_file_itself_where_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able = dataclasses.replace(catalog.RUNTIMES["openvino"], builder_flags=True)
    monkeypatch.setitem(catalog.RUNTIMES.parts, "openvino", able)
    asked = "runtime_options={openvino: {builder_flags: true}, onnxruntime: {builder_flags: true}}"
    for overrides, without in (((), {"fp32"}), ((asked,), {"fp32", *LOWER})):
        plan = plan_of(tmp_path, *overrides)
        cells = [one for one in plan.cells if "convert" not in one.steps]
        found = {one.cell.precision for one in cells if one.cell.runtime == "openvino"}
        assert found == without
        other = {one.cell.precision for one in cells if one.cell.runtime == "onnxruntime"}
        assert other == {"fp32"}


def test_fp32_cells_keep_their_keys(tmp_path: Path) -> None:
    alone = plan_of(tmp_path, "precisions=[fp32]")
    told = ("int8=auto", "keep_fp32=['*']", f"calibration.images={PROJECT / 'docs'}")
    assert alone.steps.keys() < plan_of(tmp_path).steps.keys()
    assert alone.steps.keys() == plan_of(tmp_path, "precisions=[fp32]", *told).steps.keys()


def test_what_decides_a_file_is_in_the_key_of_convert(tmp_path: Path) -> None:
    def keys(*overrides: str) -> list[str]:
        steps = plan_of(tmp_path, "models.twostage.precisions=[fp32]", *overrides).steps.values()
        return sorted(step.key for step in steps if step.stage == "convert")

    plain = keys()
    for words, changes in (
        ("int8.method=minmax", 1), ("int8.percentile=99.9", 1), ("int8=auto", 1),
        ("keep_fp32=[first]", 3), ("models.onestage.keep_fp32=[first]", 3),
        (f"calibration.images={PROJECT / 'docs'}", 1), ("models.twostage.keep_fp32=[x]", 0),
    ):  # fmt: skip
        assert len(set(keys(words)) - set(plain)) == changes, words


def test_auto_counts_ap_with_a_package_that_is_in_its_key(tmp_path: Path) -> None:
    def packages(*overrides: str) -> set[str]:
        (step,) = plan_of(
            tmp_path, "precisions=[int8]", "models.twostage.precisions=[fp32]", *overrides
        ).of_stage("convert")
        return {name for name, _ in step.toolchain}

    assert packages() == {"onnx", "onnxruntime"}
    assert packages("int8=auto") == {"onnx", "onnxruntime", "hotcoco", "numpy", "pycocotools"}


def test_what_cannot_be_quantised_is_refused_before_any_work(tmp_path: Path) -> None:
    def reason(*overrides: str) -> str:
        plan = plan_of(tmp_path, "precisions=[int8]", *overrides)
        assert not plan.of_stage("build")
        return str(plan.cells[0].refused)

    assert "int8 needs opset 13 or later" in reason("opsets=[11]")
    assert "raw outputs have none" in reason("int8=auto", "postprocess=[none]")


def test_models_whose_boxes_are_read_off_masks_have_no_box_ap_for_auto(tmp_path: Path) -> None:
    def refused(frame: str, *overrides: str) -> str:
        facts = dataclasses.replace(known(""), masks=frame != "box", mask_frame=frame)
        plan = plan_of(tmp_path, "precisions=[int8]", *overrides, facts=lambda key: facts)
        return str(plan.cells[0].refused)

    for frame in ("segments", "queries"):
        assert "boxes are read off its masks" in refused(frame, "int8=auto")
        assert refused(frame) == "None"
    for frame in ("box", "image"):
        assert refused(frame, "int8=auto") == "None"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("precisions=[fp61]", "unknown precision 'fp61'; did you mean 'fp16'?"),
        ("int8.method=percentil", "'int8.method': input should be 'minmax'"),
        ("int8.auto.max_ap_dorp=1", "unknown key 'int8.auto.max_ap_dorp'; did you mean"),
        ("int8.percentile=101", "'int8.percentile'"),
        ("int8=automatic", "'int8' is a mapping"),
        ("calibration={}", "'calibration.images' is missing"),
        ("calibration={images: x, limt: 3}", "did you mean 'limit'?"),
        ("keep_fp32=[a, a]", "'a' stands twice"),
        ("verify.precisions={int9: {}}", "unknown precision 'int9'"),
    ],
)
def test_wrong_words_are_told(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError) as told:
        load_matrix(write(tmp_path), [override])
    assert message in str(told.value)


def test_missing_calibration_images_end_with_exit_code_2(tmp_path: Path, farm: Farm) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text() + "calibration: {images: nowhere}\n")
    done = farm("run", path, "--results", tmp_path / "r", "--no-mlflow")
    assert done.returncode == 2
    assert "precise.yaml:" in done.stderr and "nowhere" in done.stderr, done.stderr


def test_calibration_images_are_needed_by_int8_only(tmp_path: Path) -> None:
    nowhere = "calibration.images=nowhere"
    assert not plan_of(tmp_path, "precisions=[fp32, fp16]", nowhere).missing
    (missing,) = plan_of(tmp_path, nowhere).missing
    assert "nowhere" in str(missing)


@pytest.mark.parametrize("lost", ["categories", "images"])
def test_annotated_calibration_images_are_checked_for_auto_before_any_work(
    tmp_path: Path, farm: Farm, lost: str
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    annotations = {
        "images": [{"id": 1, "file_name": "b.png" if lost == "images" else "a.png"}],
        "annotations": [],
        "categories": [
            {"id": i, "name": name}
            for i, name in enumerate(CLASSES[: None if lost == "images" else 1], start=1)
        ],
    }
    (tmp_path / "own.json").write_text(json.dumps(annotations))
    path = write(tmp_path)
    path.write_text(path.read_text() + "calibration: {images: images, annotations: own.json}\n")
    words = ("--executor", "inline", "--results", tmp_path / "r", "--no-mlflow")
    done = farm("run", path, "int8=auto", "precisions=[int8]", "runtimes=[onnxruntime]", *words)
    assert done.returncode == 2, done.stderr
    told = {"categories": "own.json: the model's class 'square' is not", "images": "images: 1 of 1"}
    assert told[lost] in done.stderr and "precise.yaml:" in done.stderr, done.stderr


def test_only_auto_with_annotations_has_them_in_the_key_of_check(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "own.json").write_text("{}")
    own = f"calibration={{images: {tmp_path / 'images'}, annotations: {tmp_path / 'own.json'}}}"

    def keys(*overrides: str) -> set[str]:
        return {step.key for step in plan_of(tmp_path, *overrides).of_stage("check")}

    plain = keys()
    assert plain == keys("int8=auto") == keys(own) == keys(own, "int8=auto", "precisions=[fp16]")
    assert not plain & keys(own, "int8=auto")


# Verdicts.


def pairs(scores: list[float]) -> dict[str, Any]:
    own = np.array(scores, np.float32)
    ones = np.ones_like(own)
    nan = np.full_like(own, np.nan)
    return {
        "reference_score": ones * np.float32(0.8), "engine_score": np.float32(0.8) - own,
        "iou": ones, "box_diff_px": ones * 0, "mask_iou": nan,
    }  # fmt: skip


def test_a_box_that_flips_fails_fp32_and_counts_as_one_in_lower_precisions() -> None:
    one_of_ten, four_of_ten = pairs([0.3] + [0.0] * 9), pairs([0.3] * 4 + [0.0] * 6)
    spec = VerifySpec()
    assert "scores differ by 0.3" in str(agreement(one_of_ten, spec.of("fp32")).reason)
    assert agreement(one_of_ten, spec.of("bf16")).reason is None
    assert "0.600 of 10 boxes agree" in str(agreement(four_of_ten, spec.of("bf16")).reason)


def test_limits_are_the_precisions_own_then_the_matrixs_then_the_defaults() -> None:
    assert VerifySpec().of("fp32") == VerifySpec(images=3).of("fp32")
    assert VerifySpec().of("int8").max_score_diff == 0.15
    said = VerifySpec(max_score_diff=0.5, precisions={"int8": {"max_score_diff": 0.4}})  # type: ignore[dict-item]
    assert [said.of(one).max_score_diff for one in ("fp32", "fp16", "int8")] == [0.5, 0.5, 0.4]
    assert said.of("int8").per_box and not said.of("fp32").per_box


# Real images, a real checkpoint.


def real(name: str, inner: str) -> Path:
    folder = Path(os.environ.get(name) or SHARED / inner)
    if not folder.is_dir():
        pytest.skip(f"no {name} here: {folder} (set {name} or FARM_SHARED to try with it)")
    return folder


@pytest.mark.slow
def test_yolox_nano_keeps_its_ap_in_every_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, weights = real("COCO_MINI", "coco-mini"), real("CHECKPOINTS", "checkpoints")
    monkeypatch.setenv("COCO_MINI", str(images))
    monkeypatch.setenv("CHECKPOINTS", str(weights))
    words = [
        "opsets=[17]", "shapes={fixed: {opt: 416x416}}", "runtimes=[onnxruntime, openvino]",
        "precisions=[fp32, fp16, bf16, int8]", "int8=auto", "measure.seconds=0.2",
        f"calibration={{images: {images}/calibration}}", "measure.max_seconds=0.5",
        "measure.min_samples=10",
    ]  # fmt: skip
    matrix = load_matrix(PROJECT / "matrices" / "coco-mini.yaml", words)
    with contextlib.redirect_stdout(io.StringIO()):
        sweep = run_sweep(matrix, Results(tmp_path), Choices(executor="inline", mlflow=False))
    allowed = {"fp32": 0.0005, "fp16": 0.002, "bf16": 0.002, "int8": 0.010}
    for row in sweep.rows:
        assert abs(row["box_ap_reference"] - 0.3062) < 0.0005
        kept = row["box_ap_drop"] <= allowed[row["precision"]]
        assert kept and row["status"] == "ok", (row["cell"], row["box_ap"], row["reason"])
    kept = {row["kept_fp32"] for row in sweep.rows if row["precision"] == "int8"}
    assert 0 < max(kept) < 60


@pytest.mark.slow
def test_cells_that_were_not_compared_have_no_speedup(sweep: Sweep, results: Path) -> None:
    store = Store(results / "results" / "store")
    rows = make_rows(sweep.plan, store, VerifySpec(), {})
    row = next(one for one in rows if one["cell"] == "onestage.op17.fixed.int8.openvino.cpu")
    assert row["status"] == "ok" and row["latency_p50_ms"] is not None
    assert row["speedup_vs_fp32"] is None and row["rank"] is None
    assert json.dumps(row)
