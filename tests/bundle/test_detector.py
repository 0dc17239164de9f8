"""detector.py computes what the farm computes: preparing, suppressing, mapping back, pasting."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from farm.bundle import detector, pipeline
from farm.bundle.detector import BundleError, Detections
from farm.detections import ImageMeta
from farm.detections import suppress as ours
from farm.detections.convert import from_outputs, to_original
from farm.preprocess import preparer
from farm.specs import Decay, Dims, Shape, Suppression
from farm.specs.pipeline import CentrePad, Decode, Normalize, Pad, Pipeline, Resize, Step

FIXED = Shape("fixed", *[Dims(1, 3, 96, 128)] * 3)
DYNAMIC = Shape("dynamic", Dims(1, 3, 32, 32), Dims(1, 3, 96, 160), Dims(2, 3, 512, 512))
NORMAL = Normalize((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
GREY = (114.0, 114.0, 114.0)

PIPELINES: dict[str, tuple[Step, ...]] = {
    "mmdet": (Resize(), NORMAL, Pad(divisor=32)),
    "yolox": (Resize(), Pad(square=True, value=GREY)),
    "pad first": (Resize(), Pad(divisor=16, value=GREY), replace(NORMAL, to_rgb=False)),
    "fill": (Resize(keep_ratio=False, interpolation="area"), NORMAL),
    "factor": (Resize(factor=0.7, interpolation="bicubic"), NORMAL, Pad(divisor=32)),
    "centred": (Resize(), NORMAL, CentrePad("size_divisor", 32, value=(1.0, 2.0, 3.0))),
    "logical or": (Resize(factor=1.0), NORMAL, CentrePad("logical_or", 31, 1)),
}
SIZES = [(61, 97), (97, 61), (96, 128), (150, 40), (333, 211)]


@pytest.fixture(params=SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    pixels = np.random.default_rng(5).integers(0, 256, (*request.param, 3), np.uint8)
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (5, 5), 0))
    return path


def bundle_of(made: Pipeline, shape: Shape) -> dict[str, Any]:
    """The parts of bundle.json that preparing an image needs, as they are read from it."""
    bounds = {end: getattr(shape, end).as_tuple() for end in ("min", "opt", "max")}
    own = pipeline.pipeline_for(made.text, shape)
    content = {"input": {"shape": bounds}, "preprocess": pipeline.steps(own, shape)}
    found: dict[str, Any] = json.loads(json.dumps(content))
    return found


@pytest.mark.parametrize("shape", [FIXED, DYNAMIC], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("decode", [Decode(), Decode(channel_order="rgb", to_float32=True)])
def test_images_are_prepared_as_the_farm_prepares_them(
    name: str, shape: Shape, decode: Decode, image: Path
) -> None:
    if name == "logical or":
        shape = replace(DYNAMIC, max=Dims(2, 3, 1024, 1024))
    made = Pipeline(decode, PIPELINES[name])
    expected, meta = preparer(made.text, shape)(str(image), 0, "")
    bundle = bundle_of(made, shape)
    for given in (image, str(image), cv2.imread(str(image))):
        pixels, frame = detector.prepare(given, bundle)
        assert pixels.dtype == np.float32 and np.array_equal(pixels, expected)
        assert frame._asdict() == {k: v for k, v in asdict(meta).items() if k in frame._fields}


def test_what_is_no_image_of_a_size_that_the_engine_takes_is_refused(tmp_path: Path) -> None:
    bundle = bundle_of(Pipeline(steps=PIPELINES["factor"]), DYNAMIC)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    for given, reason in (
        (tmp_path / "text.png", "not an image that OpenCV can decode"),
        (tmp_path / "empty.png", "not an image that OpenCV can decode"),
        (tmp_path / "none.png", "No such file"),
        (np.zeros((4, 4), np.uint8), r"expected an image \[H, W, 3\] of BGR .*, not \(4, 4\)"),
        (None, "not NoneType"),
        (np.zeros((900, 900, 3), np.uint8), "640x640 .* engine takes 32x32 to 512x512"),
    ):
        with pytest.raises(BundleError, match=reason):
            detector.prepare(given, bundle)  # type: ignore[arg-type]


def candidates(rows: int, scores: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    corner = random.uniform(-10, 60, (1, rows, 2)).astype(np.float32)
    size = random.uniform(1, 40, (1, rows, 2)).astype(np.float32)
    drawn = (random.integers(0, scores, (1, rows)) / scores).astype(np.float32)
    return {
        "boxes": np.concatenate([corner, corner + size], 2),
        "scores": np.where(drawn < 0.1, np.float32(0), drawn),
        "labels": random.integers(0, 3, (1, rows)),
    }


@pytest.mark.parametrize("rows", [0, 1, 300])
@pytest.mark.parametrize("scores", [4, 1 << 20])
@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize(
    "decay",
    [None, Decay(), Decay(method="naive"), Decay(method="gaussian", offset=1, min_score=0.05)],
    ids=lambda one: one.method if one else "greedy",
)
def test_boxes_are_suppressed_as_the_farm_suppresses_them(
    rows: int, scores: int, agnostic: bool, decay: Decay | None
) -> None:
    how = Suppression(0.5, agnostic, 40, decay)
    found = candidates(rows, scores, rows + scores)
    expected = ours.suppress(found, how)
    counted = expected["dets"][0, :, 4] > 0
    got = detector.suppress(found, asdict(how))
    assert np.array_equal(got["dets"][0], expected["dets"][0][counted])
    assert np.array_equal(got["labels"][0], expected["labels"][0][counted])


META = ImageMeta(0, "", 90, 140, 58, 90, 64, 96, 90 / 140, 58 / 90, 3, 2)
NAMES = ["a", "b", "c"]


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("frame", ["box", "image", "segments", "queries"])
def test_boxes_and_masks_come_back_to_the_image_as_in_the_farm(frame: str, clip: bool) -> None:
    random = np.random.default_rng(3)
    found = candidates(12, 1 << 20, 1)
    dets = np.concatenate([found["boxes"], found["scores"][..., None]], 2)
    dets[0] = dets[0][np.argsort(-dets[0, :, 4])]
    size = (28, 28) if frame == "box" else (16, 24)
    masks = np.array([cv2.GaussianBlur(one, (7, 7), 0) for one in random.normal(0, 3, (12, *size))])
    probable = masks if frame == "queries" else 1 / (1 + np.exp(-masks))
    outputs = {"dets": dets, "labels": found["labels"], "masks": probable[None].astype(np.float32)}
    threshold = 0.0 if frame == "queries" else 0.5
    expected = to_original(from_outputs(outputs)[0], META, clip, threshold, frame)
    how = {"clip_boxes": clip, "mask_threshold": threshold, "mask_frame": frame}
    where = detector.Frame(**{k: v for k, v in asdict(META).items() if k in detector.Frame._fields})
    got = detector.to_original(outputs, where, how, NAMES)
    np.testing.assert_allclose(got.boxes, expected.boxes, rtol=0, atol=1e-5)
    np.testing.assert_allclose(got.scores, expected.scores, rtol=0, atol=1e-6)
    assert np.array_equal(got.labels, expected.labels)
    assert got.names == [NAMES[label] for label in expected.labels]
    assert got.masks is not None and expected.rles is not None and len(got.masks) > 5
    decoded = np.array([coco_mask.decode(dict(one)) for one in expected.rles])
    assert decoded.any() and np.array_equal(got.masks, decoded.astype(bool))


def test_an_image_in_which_nothing_is_found_has_no_boxes() -> None:
    outputs = {
        "dets": np.zeros((1, 5, 5), np.float32),
        "labels": np.full((1, 5), -1),
        "masks": np.zeros((1, 5, 28, 28), np.float32),
    }
    where = detector.Frame(90, 140, 58, 90, 64, 96, 0.6, 0.6, 0, 0)
    for frame in ("box", "image", "queries"):
        how = {"clip_boxes": True, "mask_threshold": 0.5, "mask_frame": frame}
        found = detector.to_original(outputs, where, how, NAMES)
        assert found.boxes.shape == (0, 4) and found.names == []
        assert found.masks is not None and found.masks.shape == (0, 90, 140)


ENGINE = {
    "file": "engine/model.blob", "runtime": "openvino", "version": "2026.4.1", "machine": "x86_64",
    "device": "Intel Xeon (avx2)", "instruction_sets": ["avx2"],
}  # fmt: skip


def test_an_engine_fits_its_version_and_processor_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def misfit(version: str = "2026.4.1") -> str | None:
        monkeypatch.setattr(detector, "version_here", lambda runtime: version)
        return detector.misfit(ENGINE)

    monkeypatch.setattr(detector, "instruction_sets", lambda: ["avx2"])
    monkeypatch.setattr(detector.platform, "machine", lambda: "x86_64")
    assert misfit() is None
    assert misfit("2025.2.0") == "it was built by openvino 2026.4.1, and here is 2025.2.0"
    monkeypatch.setattr(detector, "instruction_sets", lambda: ["avx2", "avx512f"])
    reason = misfit() or ""
    assert "built for Intel Xeon (avx2)" in reason and "here are: avx2 avx512f" in reason
    monkeypatch.setattr(detector, "instruction_sets", lambda: None)  # no Linux
    assert "instruction sets here are not known" in str(misfit())
    monkeypatch.setattr(detector, "instruction_sets", lambda: ["avx2"])
    monkeypatch.setattr(detector.platform, "machine", lambda: "aarch64")
    assert misfit() == "it was built for x86_64, and here is aarch64"


def test_instruction_sets_are_named_as_the_farm_names_them() -> None:
    from farm.bundle.manifest import instruction_sets
    from farm.plan.machines import processors
    from farm.plan.machines.placement import cpu_model

    assert instruction_sets("Intel Xeon, Ice Lake (avx2 avx512f)") == ["avx2", "avx512f"]
    assert instruction_sets("Intel Atom (no avx2)") == instruction_sets("riscv64") == []
    assert list(detector.SETS.items()) == [*processors._X86_SETS, *processors._ARM_SETS]
    if (here := detector.instruction_sets()) is not None:
        assert here == instruction_sets(cpu_model())


SAMPLE = {
    "boxes": [[0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 30, 30]],
    "scores": [0.9, 0.8, 0.5],
    "names": ["a", "a", "b"],
    "limits": {"min_score": 0.3, "box_px": 1.0, "score": 0.01},
}


def found_in_sample(boxes: Any = None, scores: Any = None, names: Any = None) -> Detections:
    boxes = np.array(SAMPLE["boxes"] if boxes is None else boxes, np.float32)
    scores = np.array(SAMPLE["scores"] if scores is None else scores, np.float32)
    return Detections(boxes, scores, names or SAMPLE["names"], np.zeros(len(scores), np.int64))


def test_the_boxes_of_the_sample_are_compared_by_name_place_and_score() -> None:
    assert detector.compared(found_in_sample(), SAMPLE) == (0.0, pytest.approx(0, abs=1e-6))
    near = [[0, 0, 10, 10.5], [0, 0, 10, 11], [20, 20, 30, 30]]
    assert detector.compared(found_in_sample(near), SAMPLE)[0] == 0.5
    more = [*near, [1, 1, 2, 2]]
    weak = [0.9, 0.8, 0.5, 0.305]  # within the limit of scores around the least that is expected
    assert detector.compared(found_in_sample(more, weak, ["a", "a", "b", "c"]), SAMPLE)
    far = [[0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 30, 33]]
    for boxes, scores, names, reason in (
        (far, None, None, "b of score 0.500 at .* is not found within 1.0 pixels"),
        (None, [0.9, 0.8, 0.45], None, "b of score 0.500"),
        (None, None, ["a", "a", "a"], "b of score 0.500"),
        (more, [0.9, 0.8, 0.5, 0.4], ["a", "a", "b", "c"], "c of score 0.400 .* not among"),
    ):
        with pytest.raises(BundleError, match=reason):
            detector.compared(found_in_sample(boxes, scores, names), SAMPLE)
