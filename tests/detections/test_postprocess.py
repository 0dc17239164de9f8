"""Where a graph ends: the suppression on the host is the graph's own, raw outputs are compared."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from conftest import PROJECT, Farm
from rows import row

from farm import specs
from farm.detections import raw
from farm.detections.suppress import suppress
from farm.results.cells import read_raw_agreement
from farm.results.picking.criteria import Criteria
from farm.results.picking.select import pick
from farm.specs import Decay, Suppression, Tolerance

Outputs = dict[str, npt.NDArray[np.generic]]


def drawn(images: int = 2, rows: int = 300, scores: int = 1 << 20) -> Outputs:
    """Boxes that overlap much, with so many different scores; a tenth takes no part."""
    random = np.random.default_rng(rows)
    corner = random.uniform(-10, 60, (images, rows, 2)).astype(np.float32)
    size = random.uniform(1, 40, (images, rows, 2)).astype(np.float32)
    drawn = (random.integers(0, scores, (images, rows)) / scores).astype(np.float32)
    return {
        "boxes": np.concatenate([corner, corner + size], 2),
        "scores": np.where(drawn < 0.1, np.float32(0), drawn),
        "labels": random.integers(0, 3, (images, rows)),
    }


def in_a_graph(how: Suppression) -> Any:
    """The suppression as a graph has it: boxes, scores, labels -> dets, labels."""
    import torch

    from farm.sources.mmdet import candidates
    from farm.sources.mmdet.parts import packed

    class Graph(torch.nn.Module):
        def forward(self, boxes: Any, scores: Any, labels: Any) -> Any:
            found = candidates.Candidates(boxes, scores, labels)
            return packed(candidates.suppress(found, how))

    return Graph()


def check(found: Outputs, how: Suppression, dets: Any, labels: Any, tolerance: float) -> None:
    ours = suppress(found, how)
    counted = dets[..., 4] > 0
    assert counted.sum(1).min() > 5 and (how.keep == 1000 or counted.sum(1).max() == how.keep)
    assert ours["dets"].shape == dets.shape
    np.testing.assert_array_equal(ours["labels"], labels)
    np.testing.assert_allclose(ours["dets"][counted], dets[counted], rtol=0, atol=tolerance)
    assert (ours["dets"][~counted] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("keep", [12, 1000])
@pytest.mark.parametrize("decay", [None, Decay(0.4, method="linear"), Decay(method="gaussian")])
def test_the_host_suppresses_as_the_graph_does(
    agnostic: bool, keep: int, decay: Decay | None
) -> None:
    import torch

    how, found = Suppression(0.5, agnostic, keep, decay), drawn()
    values = in_a_graph(how)(*(torch.from_numpy(found[name]) for name in found))
    # torch's and numpy's exp differ in the last bit.
    check(found, how, *(value.numpy() for value in values), tolerance=1e-6 if decay else 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's tracer
def test_the_host_orders_equal_scores_as_the_file_does(tmp_path: Path) -> None:
    """(Eager torch leaves the order of equal scores open.)"""
    import onnxruntime
    import torch

    how, found = Suppression(0.5, False, 40), drawn(scores=30)
    torch.onnx.export(
        in_a_graph(how), tuple(torch.from_numpy(found[name]) for name in found),
        str(tmp_path / "x.onnx"), dynamo=False, opset_version=17, input_names=list(found),
    )  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    check(found, how, *session.run(None, found), tolerance=0)


@pytest.mark.slow
def test_the_host_suppresses_as_mmcv_does() -> None:
    import torch

    from farm.sources.mmdet import compat  # noqa: F401

    # isort: split
    from mmcv.ops import batched_nms

    found = drawn(1, 200)
    found["scores"] = np.random.default_rng(1).random((1, 200), np.float32)  # mmcv's ties may vary
    boxes, scores, labels = (torch.from_numpy(found[name][0]) for name in found)
    expected, kept = batched_nms(boxes, scores, labels, {"type": "nms", "iou_threshold": 0.4})
    ours = suppress(found, Suppression(0.4, False, 1000))
    count = int((ours["labels"][0] >= 0).sum())
    assert 20 < count < 200
    np.testing.assert_array_equal(ours["dets"][0, :count], expected.numpy())
    np.testing.assert_array_equal(ours["labels"][0, :count], labels[kept].numpy())


def test_an_overlap_of_exactly_the_threshold_suppresses_nothing() -> None:
    boxes = np.array([[[0, 0, 2, 1], [0, 0, 1, 1], [0, 0, 1.9, 1]]], np.float32)
    found = {"boxes": boxes, "scores": np.array([[0.9, 0.8, 0.7]], np.float32)}
    ours = suppress({**found, "labels": np.zeros((1, 3), np.int64)}, Suppression(0.5, False, 9))
    np.testing.assert_array_equal(ours["dets"][0, :, 4], np.float32([0.9, 0.8, 0]))
    assert ours["labels"][0].tolist() == [0, 0, -1]


def test_of_equal_scores_the_first_row_is_kept() -> None:
    boxes = np.array([[[0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 29, 29]]], np.float32)
    scores = np.array([[0.5, 0.5, 0.9]], np.float32)
    ours = suppress(
        {"boxes": boxes, "scores": scores, "labels": np.zeros((1, 3), np.int64)},
        Suppression(0.5, True, 2),
    )
    np.testing.assert_array_equal(ours["dets"][0, :, :4], boxes[0, [2, 0]])


def judged(tmp_path: Path, reference: Outputs, engine: Outputs, **limits: float) -> object:
    np.savez(tmp_path / "raw.npz", **asdict(raw.compare([reference], [engine])))
    return read_raw_agreement(tmp_path / "raw.npz", Tolerance(**limits))  # type: ignore[arg-type]


def test_raw_outputs_agree_within_a_part_of_their_largest_value(tmp_path: Path) -> None:
    reference = {"out_0": np.array([0.0, 4.0, -8.0], np.float32)}
    near = {"out_0": reference["out_0"] + np.float32(0.004)}
    found = judged(tmp_path, reference, near)
    assert found.reason is None  # type: ignore[attr-defined]
    assert found.max_abs_diff == pytest.approx(0.004, rel=1e-3)  # type: ignore[attr-defined]
    assert found.max_rel_diff == pytest.approx(0.0005, rel=1e-3)  # type: ignore[attr-defined]
    assert 0.9999 < found.cosine < 1  # type: ignore[attr-defined]
    strict = judged(tmp_path, reference, near, max_rel_diff=1e-4)
    assert strict.reason == (  # type: ignore[attr-defined]
        "output out_0 differs by 0.0005 of its largest value, at most 0.0001 allowed"
    )


@pytest.mark.parametrize(
    "engine",
    [
        {},
        {"out_0": np.zeros((2, 4), np.float32)},
        {"out_0": np.array([1, np.nan, 3], np.float32)},
    ],
    ids=["missing", "another shape", "not finite"],
)
def test_a_raw_output_that_cannot_be_compared_is_named(tmp_path: Path, engine: Outputs) -> None:
    found = judged(tmp_path, {"out_0": np.ones(3, np.float32)}, engine, max_rel_diff=1e9)
    assert "output out_0 is missing, of another shape, or not finite" in found.reason  # type: ignore[attr-defined]


def test_raw_outputs_come_back_from_their_file(tmp_path: Path) -> None:
    batches = [{"a": np.ones((2, 3), np.float32), "b.c": np.arange(4)}] * 2
    raw.save(tmp_path / "x.npz", batches)
    found = raw.load(tmp_path / "x.npz")
    assert [list(batch) for batch in found] == [["a", "b.c"]] * 2
    np.testing.assert_array_equal(found[1]["b.c"], np.arange(4))


def test_an_engine_without_ap_is_picked_only_when_it_is_asked_for() -> None:
    rows = [
        row("raw", postprocess="none", box_ap=None, box_ap_drop=None, latency_p50_ms=1.0),
        row("host", postprocess="host", latency_p50_ms=20.0),
        row("whole"),
    ]
    picked = pick(rows, Criteria())
    assert (picked.best or {})["cell"] == "whole"
    assert picked.left_out["raw"] == "raw outputs have no AP; --postprocess none selects them"
    assert (pick(rows, Criteria(postprocess="host")).best or {})["cell"] == "host"
    assert (pick(rows, Criteria(postprocess="none")).best or {})["cell"] == "raw"
    assert pick(rows, Criteria(objective="ap", postprocess="none")).best is None
    assert pick([row("x", box_ap=None)], Criteria()).best is None


def demo_model(name: str) -> specs.Model:
    files = [
        specs.File(str(PROJECT / "matrices/demo" / f"{name}{end}"), "") for end in (".py", ".pth")
    ]
    return specs.Model(name, "mmdet", *files)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
def test_raw_outputs_are_those_of_forward_dummy(tmp_path: Path, opset: int, dynamic: bool) -> None:
    """Of the two-stage model, whose second stage takes random proposals in mmdet."""
    import onnxruntime
    import openvino

    from farm.catalog import SOURCES
    from farm.specs import Dims

    source = SOURCES["mmdet"].adapter()
    detector = source.load(demo_model("twostage"))
    opt = Dims(1, 3, 96, 128)
    free = specs.Shape("d", Dims(1, 3, 1, 1), opt, Dims(9, 3, 999, 999))
    path = tmp_path / "raw.onnx"
    source.export_onnx(
        detector, free if dynamic else specs.Shape("f", opt, opt, opt), opset, path, "none"
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(openvino.Core().read_model(path), "CPU", exact)
    for size in [(1, 96, 128), *([(2, 128, 96)] * dynamic)]:
        random = np.random.default_rng(3)
        images = random.normal(size=(size[0], 3, *size[1:])).astype(np.float32)
        expected = detector.raw(images)
        # 4 levels of scores and of boxes, then class scores, boxes and masks of fixed proposals.
        assert list(expected) == [f"out_{i}" for i in range(11)]
        assert expected["out_0"].shape[0] == size[0] and expected["out_8"].shape == (1000, 5)
        by_onnxruntime = session.run(None, {"images": images})
        by_openvino = compiled([images])
        for i, (name, values) in enumerate(expected.items()):
            for found in (by_onnxruntime[i], by_openvino[i]):
                np.testing.assert_allclose(found, values, atol=1e-4, rtol=0, err_msg=name)


@pytest.mark.slow
def test_models_say_whether_their_graph_can_be_cut() -> None:
    from farm.catalog import SOURCES

    one, two = (SOURCES["mmdet"].adapter().check(demo_model(f"{n}stage")) for n in ("one", "two"))
    assert one.suppression == Suppression(0.5, False, 100) and one.host_refused is None
    assert two.suppression is None and "in the middle of its graph" in two.host_refused
    assert one.raw_refused is None and two.raw_refused is None


@pytest.mark.slow
def test_a_sweep_has_the_same_ap_wherever_the_graph_ends(
    small_matrix: Path, tmp_path: Path, farm: Farm
) -> None:
    results = tmp_path / "r"
    demo = PROJECT / "matrices/demo"
    words = (
        "postprocess=[graph, host, none]",
        "runtimes=[torch, onnxruntime]",
        "shapes={batch: {opt: 2x3x128x128}}",
        "dataset.count=4",
        f"models.twostage={{config: {demo}/twostage.py, checkpoint: {demo}/twostage.pth,"
        " runtimes: [onnxruntime], postprocess: [host]}",
    )
    words = (*words, "--executor", "inline", "--no-mlflow")
    done = farm("run", small_matrix, *words, "--results", results)
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_parquet(results / "leaderboard").set_index("cell")
    assert set(table.index) == {
        *(f"onestage.batch{end}.fp32.torch.cpu" for end in ("", ".host", ".none")),
        *(f"onestage.op17.batch{end}.fp32.onnxruntime.cpu" for end in ("", ".host", ".none")),
        "twostage.op17.batch.host.fp32.onnxruntime.cpu",
    }
    refused = table.loc["twostage.op17.batch.host.fp32.onnxruntime.cpu"]
    assert refused.status == "skipped" and "cannot run on the host" in refused.reason
    one = table[table.model == "onestage"]
    assert (one.status == "ok").all() and (one.latency_p50_ms > 0).all()
    whole, cut = one[one.postprocess != "none"], one[one.postprocess == "none"]
    assert whole.bbox_mAP.nunique() == 1 and whole.bbox_mAP.iloc[0] > 0.3
    assert (whole.matched_fraction == 1).all() and whole.cosine.isna().all()
    assert cut.bbox_mAP.isna().all() and cut.evaluate_key.isna().all()
    assert (cut.cosine > 0.99999).all() and (cut.max_rel_diff < 1e-4).all()
    exported = one[one.runtime != "torch"].groupby("postprocess").export_key.nunique()
    assert exported.to_dict() == {"graph": 1, "host": 1, "none": 1}
    # The raw ones are the fastest, and have no AP.
    asked = ("best", "--target", "cpu", "--model", "onestage", "--results", results, "--json")
    best = json.loads(farm(*asked).stdout)
    assert best["best"]["postprocess"] != "none"
    raw = json.loads(farm(*asked, "--postprocess", "none").stdout)
    assert raw["best"]["postprocess"] == "none"
    again = farm("reproduce", "onestage.op17.batch.none.fp32.onnxruntime.cpu", "--results", results)
    assert again.returncode == 0 and "max_rel_diff" in again.stdout
