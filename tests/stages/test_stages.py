"""What stages are made of: pasting, prepared images, statistics; each against an outside truth."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from farm.datasets import coco
from farm.datasets.prepared import Prepared, PreparedWriter
from farm.detections import Detections, ImageMeta, files
from farm.detections.convert import from_outputs, to_original
from farm.errors import InputError, LabelOutOfRange, StepFailed
from farm.measuring.sampling import sample, summarise
from farm.parsing import parse_bytes, parse_dims
from farm.runtimes import DeviceTimed
from farm.runtimes.tensorrt.session import TensorRtSession
from farm.specs import Dims, Engine, EngineOptions, Ref, Shape, Suppression, Target, VerifyInputs
from farm.stages import Context, engines, verify
from farm.stages.engines import Suppressing
from farm.stages.measure import fitted
from farm.store import Record, Store
from farm.units import format_bytes, format_seconds


def meta(number: int, height: int, width: int) -> ImageMeta:
    return ImageMeta(number, f"{number}.png", 100, 200, 50, 100, height, width, 0.5, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_masks_are_pasted_as_mmdet_does(threshold: float) -> None:
    import torch
    from pycocotools import mask as coco_mask

    import farm.sources.mmdet.compat  # noqa: F401

    # isort: split
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    from farm.detections.masks import paste

    random = np.random.default_rng(0)
    corners = random.uniform(-20, 80, (60, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(1), corners.max(1).clip(5) + 30], axis=1)
    masks = random.random((60, 28, 28), np.float32)
    ours = coco_mask.decode(list(paste(masks, boxes, 90, 120, threshold)))
    for i in range(60):
        pasted, window = _do_paste_mask(
            torch.from_numpy(masks[i : i + 1, None]), torch.from_numpy(boxes[i : i + 1]), 90, 120
        )
        theirs = np.zeros((90, 120), np.uint8)
        theirs[window] = (pasted[0] >= threshold).numpy()
        # A pixel whose probability is the threshold to the last bit may fall on either side.
        assert (ours[:, :, i] != theirs).sum() <= 2


def test_prepared_images_come_back_exactly_and_narrow_where_that_is_exact(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    whole = random.integers(0, 256, (3, 8, 8)).astype(np.float32)
    real = random.normal(size=(3, 8, 16)).astype(np.float32)
    with PreparedWriter(tmp_path) as writer:
        writer.add(whole, meta(1, 8, 8))
        writer.add(real, meta(2, 8, 16))
        writer.add(-whole, meta(3, 8, 8))
    prepared = Prepared(tmp_path)
    assert [one.image_id for one in prepared.metas] == [1, 2, 3]
    for i, image in enumerate((whole, real, -whole)):
        assert prepared.image(i).dtype == np.float32
        np.testing.assert_array_equal(prepared.image(i), image)
    assert (tmp_path / "images.bin").stat().st_size == 192 + 4 * 384 + 4 * 192


def test_batches_hold_neighbours_of_one_size_and_are_filled_up(tmp_path: Path) -> None:
    with PreparedWriter(tmp_path) as writer:
        for number, width in enumerate((8, 8, 8, 16, 8)):
            writer.add(np.full((3, 8, width), number, np.float32), meta(number, 8, width))
    batches = list(Prepared(tmp_path).batches(2))
    assert [list(indices) for indices, _ in batches] == [[0, 1], [2], [3], [4]]
    assert all(images.shape[0] == 2 for _, images in batches)
    assert [float(image.max()) for image in batches[0][1]] == [0, 1]
    assert [float(image.max()) for image in batches[1][1]] == [2, 2]
    np.testing.assert_array_equal(
        fitted(Prepared(tmp_path), Dims(2, 3, 4, 12))[1, 0, 0], [1] * 8 + [0] * 4
    )


def test_outputs_lose_empty_rows_and_go_back_to_the_original_image() -> None:
    dets = np.array([[[10, 20, 120, 60, 0.9], [0, 0, 0, 0, 0]]], np.float32)
    (one,) = from_outputs({"dets": dets, "labels": np.array([[3, -1]])})
    assert len(one) == 1 and one.labels.tolist() == [3]
    clipped = to_original(one, meta(1, 64, 128), clip=True, mask_threshold=0.5)
    assert clipped.boxes.tolist() == [[20, 40, 200, 100]]
    free = to_original(one, meta(1, 64, 128), clip=False, mask_threshold=0.5)
    assert free.boxes.tolist() == [[20, 40, 240, 120]]


def test_detections_come_back_from_their_file(tmp_path: Path) -> None:
    def some(count: int) -> Detections:
        random = np.random.default_rng(count)
        return Detections(
            random.random((count, 4), np.float32),
            random.random(count, np.float32),
            random.integers(0, 9, count),
            rles=tuple({"size": [9, 7], "counts": f"0{i}".encode()} for i in range(count)),
        )

    kept = [some(3), some(0), some(5)]
    files.save(tmp_path / "x.npz", kept)
    for before, after in zip(kept, files.load(tmp_path / "x.npz"), strict=True):
        np.testing.assert_array_equal(before.boxes, after.boxes)
        np.testing.assert_array_equal(before.labels, after.labels)
        assert after.rles == before.rles
    counts = np.array([rle["counts"] for one in kept for rle in one.rles or ()], "S")
    with np.load(tmp_path / "x.npz") as stored:
        new = ("mask_texts", "mask_ends")
        earlier = {name: stored[name] for name in stored.files if name not in new}
    np.savez(tmp_path / "earlier.npz", mask_counts=counts, **earlier)
    assert [one.rles for one in files.load(tmp_path / "earlier.npz")] == [one.rles for one in kept]
    long = replace(
        kept[0], rles=({"size": [900, 900], "counts": b"0" * 3000}, *(kept[0].rles or ())[1:])
    )
    files.save(tmp_path / "long.npz", [long, *[some(100)] * 3])  # a long one makes none longer
    assert (tmp_path / "long.npz").stat().st_size < 20_000
    files.save(tmp_path / "none.npz", [])
    assert files.load(tmp_path / "none.npz") == []


def annotated(path: Path, *categories: dict[str, Any]) -> Path:
    """One image with a person and a car, in COCO's format with these categories."""
    boxes = {7: [0, 0, 40, 40], 3: [50, 50, 30, 30]}
    truth = [
        {"id": i, "image_id": 1, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
        for i, (c, b) in enumerate(boxes.items(), 1)
    ]
    image = {"id": 1, "file_name": "1.png", "height": 100, "width": 200}
    path.write_text(json.dumps({"images": [image], "annotations": truth, "categories": categories}))
    return path


PERSON, CAR = {"id": 7, "name": "person"}, {"id": 3, "name": "car"}
CORNERS = np.array([[0, 0, 40, 40], [50, 50, 80, 80]], np.float32)


@pytest.mark.parametrize("categories", [(PERSON, CAR), (CAR, {"id": 5, "name": "dog"}, PERSON)])
def test_a_label_is_a_category_by_its_name_whatever_the_files_order(
    tmp_path: Path, categories: tuple[dict[str, Any], ...]
) -> None:
    path = annotated(tmp_path / "annotations.json", *categories)
    found = Detections(CORNERS, np.array([0.9, 0.9], np.float32), np.array([0, 1]))
    figures = coco.average_precision(path, [found], [meta(1, 64, 64)], ("person", "car"), False)
    assert figures["box_ap"] == pytest.approx(1.0)
    turned = coco.average_precision(path, [found], [meta(1, 64, 64)], ("car", "person"), False)
    assert turned["box_ap"] == 0.0


def test_ap_is_also_kept_by_class(tmp_path: Path) -> None:
    path = annotated(tmp_path / "annotations.json", CAR, {"id": 5, "name": "dog"}, PERSON)
    found = Detections(CORNERS, np.array([0.9, 0.8], np.float32), np.array([2, 2]))
    classes = ("dog", "car", "person")
    figures = coco.average_precision(path, [found], [meta(1, 64, 64)], classes, False)
    each = figures["box_ap_by_class"]
    assert each == {"dog": None, "car": 0.0, "person": pytest.approx(1.0)}
    assert figures["box_ap"] == pytest.approx(0.5)
    nothing = Detections(CORNERS[:0], np.zeros(0, np.float32), np.zeros(0, np.int64))
    none = coco.average_precision(path, [nothing], [meta(1, 64, 64)], classes, False)
    assert none["box_ap_by_class"] == {"dog": None, "car": 0.0, "person": 0.0}


@pytest.mark.parametrize("label", [2, -1])
def test_a_label_without_a_class_is_no_figure(tmp_path: Path, label: int) -> None:
    path = annotated(tmp_path / "annotations.json", CAR, PERSON)
    found = Detections(CORNERS[:1], np.array([0.9], np.float32), np.array([label]))
    with pytest.raises(StepFailed, match=f"it finds label {label} in 1.png, and has 2 classes"):
        coco.average_precision(path, [found], [meta(1, 64, 64)], ("car", "person"), False)


def test_two_classes_of_a_model_have_two_names(tmp_path: Path) -> None:
    names = {"categories": [CAR, PERSON]}
    with pytest.raises(InputError, match="two of the model's classes are named 'car'"):
        coco.check_classes(names, ("car", "person", "car"), "x.json")


def test_a_percentile_needs_its_samples() -> None:
    few = summarise(np.linspace(1, 2, 64), np.empty(0), 4)
    assert few["latency_p90_ms"] == pytest.approx(1.9)
    assert few["latency_p95_ms"] is None and few["latency_p99_ms"] is None
    assert few["serial_images_per_s"] == pytest.approx(4000 / 1.5)
    assert few["stable"] is False  # it drifts from 1 to 2
    many = summarise(np.tile([1.0, 1.1], 400), np.empty(0), 1)
    assert many["latency_p99_ms"] == pytest.approx(1.1) and many["stable"] is True
    assert many["device_p50_ms"] is None and many["host_p50_ms"] is None
    timed = summarise(np.array([3.0, 4.0, 6.0]), np.array([2.0, 2.5, 3.0]), 1)
    assert (timed["device_p50_ms"], timed["host_p50_ms"]) == (2.5, 1.5)


def test_a_slow_engine_runs_as_often_as_a_median_needs() -> None:
    images = np.zeros((1, 3, 8, 8), np.float32)
    taken, _ = sample(Candidates(), images, seconds=0, most=0, least=64)
    assert len(taken) == 10 and summarise(taken, np.empty(0), 1)["latency_p50_ms"] > 0


def test_units_are_read_as_people_write_them() -> None:
    assert parse_bytes("1GiB") == 2**30 and parse_bytes("1.5 KiB") == 1536
    assert parse_bytes("2MB") == 2_000_000 and format_bytes(3 << 20) == "3MiB"
    assert parse_dims("800x1216") == Dims(1, 3, 800, 1216)
    assert parse_dims("4x3x96X128") == Dims(4, 3, 96, 128)
    for bad in ("12", "x", "-1GiB", "GiB"):
        with pytest.raises(ValueError, match="write 512MiB"):
            parse_bytes(bad)
    for bad in ("0x5", "1x2x3", "axb", "800"):
        with pytest.raises(ValueError, match="write HxW"):
            parse_dims(bad)
    assert [format_seconds(s) for s in (1.25, 75, 7260)] == ["1.2s", "1m15s", "2h01m"]


class Candidates:
    """A session that finds two boxes, one over the other."""

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        boxes, scores = np.float32([[[0, 0, 9, 9], [0, 0, 9, 8]]]), np.float32([[0.9, 0.8]])
        return {"boxes": boxes, "scores": scores, "labels": np.zeros((1, 2), np.int64)}

    def close(self) -> None: ...


class TimedCandidates(Candidates):
    """Whose accelerator counts its runs in ms."""

    runs = 0.0

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.runs += 1
        return super().run(images)

    def device_time_ms(self) -> float:
        return self.runs

    uses_cuda_graph = True


def test_the_accelerators_own_time_is_taken_where_a_runtime_knows_it() -> None:
    assert issubclass(TensorRtSession, DeviceTimed) and hasattr(TensorRtSession, "uses_cuda_graph")
    images, how = np.zeros((1, 3, 8, 8), np.float32), Suppression(0.5, False, 100)
    for session in (TimedCandidates(), Suppressing(TimedCandidates(), how)):
        own = partial(engines.device_time_ms, session)
        taken, device = sample(session, images, seconds=0, most=1, least=4, device_time=own)
        assert device.tolist() == [1, 2, 3, 4] and len(taken) == 4
        assert engines.uses_cuda_graph(session) is True
    for untimed in (Candidates(), Suppressing(Candidates(), how)):
        own = partial(engines.device_time_ms, untimed)
        assert sample(untimed, images, seconds=0, most=1, least=4, device_time=own)[1].size == 0
        assert engines.uses_cuda_graph(untimed) is None


@pytest.mark.parametrize(
    ("postprocess", "suppression", "expected"),
    [
        ("graph", None, "copies, postprocessing in the graph"),
        ("host", Suppression(0.5, False, 100), "copies, suppression on the host"),
        ("host", None, "copies"),
        ("none", None, "copies"),
    ],
)
def test_a_latency_says_what_it_includes(
    postprocess: str, suppression: Suppression | None, expected: str
) -> None:
    options = EngineOptions("onnxruntime", "fp32", Shape("fixed", *[Dims(1, 3, 8, 8)] * 3))
    assert engines.includes(Engine(options, None, None, postprocess, suppression)) == expected


def constant_engine(context: Context, built: Ref, label: int, masked: bool = False) -> None:
    """Leave an engine of ONNX Runtime's that finds the box 1 1 7 7 with this label everywhere; its
    mask is the upper half of the box."""
    import onnx
    from onnx import helper, numpy_helper

    outputs: dict[str, Any] = {"dets": np.float32([[[1, 1, 7, 7, 0.9]]])}
    outputs["labels"] = np.int64([[label]])
    if masked:
        outputs["masks"] = np.repeat(np.float32([1, 0]), 72).reshape(1, 1, 12, 12)
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in outputs.items()
    ]
    image = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, 8, 8])
    types = {
        np.dtype(np.float32): onnx.TensorProto.FLOAT,
        np.dtype(np.int64): onnx.TensorProto.INT64,
    }
    ends = [helper.make_tensor_value_info(n, types[v.dtype], v.shape) for n, v in outputs.items()]
    graph = helper.make_graph(nodes, "constant", [image], ends)
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    folder = context.store.path(built) / "engine"
    folder.mkdir(parents=True)
    onnx.save(model, str(folder / "model.onnx"))


def finish(store: Store, ref: Ref) -> None:
    """Publish what lies at an artifact's place as the artifact."""
    folder = store.work_folder(ref.key)
    for path in store.path(ref).iterdir():
        path.rename(folder / path.name)
    store.path(ref).rmdir()
    store.publish(folder, Record(ref.stage, ref.key, "", {}, {}, {}, 1.0, 1, {"host": "h"}))


def verified(context: Context, label: int, classes: int, masked: bool = False) -> Any:
    """Run `verify` with a constant engine on one image, in which PyTorch finds nothing."""
    built, prepared, reference = Ref("build", "b"), Ref("prepare", "p"), Ref("reference", "r")
    if not context.store.path(built).exists():
        context.folder.mkdir()
        constant_engine(context, built, label, masked)
        for ref in (prepared, reference):
            context.store.path(ref).mkdir(parents=True)
        with PreparedWriter(context.store.path(prepared)) as writer:
            writer.add(np.zeros((3, 8, 8), np.float32), meta(1, 8, 8))
        nothing = Detections(CORNERS[:0], np.zeros(0, np.float32), np.zeros(0, np.int64))
        files.save(context.store.path(reference) / "graph.npz", [nothing])
        for ref in (built, prepared, reference):
            finish(context.store, ref)
    shape = Shape("s", *[Dims(1, 3, 8, 8)] * 3)
    engine = Engine(EngineOptions("onnxruntime", "fp32", shape), built, None)
    target = Target("cpu", "here")
    values = VerifyInputs(engine, prepared, reference, classes, 0.5, "box", target)
    return verify.run(values, context)


@pytest.mark.slow
def test_verify_refuses_a_label_that_is_no_class_as_evaluate_does(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    context = Context(Store(tmp_path / "store"), tmp_path / "work", 1)
    with pytest.raises(LabelOutOfRange, match=r"finds label 3 in 1.png, and has 3 classes"):
        verified(context, label=3, classes=3)
    same = verified(context, label=3, classes=4), verified(context, label=3, classes=0)
    assert same[0] == same[1] == {"images": 1, "boxes": 0}


@pytest.mark.slow
def test_verify_keeps_the_engines_masks_in_the_pixels_of_its_input(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    context = Context(Store(tmp_path / "store"), tmp_path / "work", 1)
    verified(context, label=0, classes=1, masked=True)
    (kept,) = files.load(context.folder / "detections.npz")
    assert kept.boxes.tolist() == [[1, 1, 7, 7]] and kept.rles is not None
    expected = np.zeros((8, 8), np.uint8)
    expected[1:4, 1:7] = 1
    assert np.array_equal(coco_mask.decode(dict(kept.rles[0])), expected)
