"""Inference: the one loop from prepared images to detections; and the one comparison of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from conftest import needs_packages

from farm.detections import Detections, Floats, ImageMeta
from farm.detections.compare import Agreement, agreement, compare
from farm.detections.convert import from_outputs
from farm.errors import LabelOutOfRange, WrongOutputs
from farm.models.records import Trial
from farm.specs import Suppression, Tolerance
from farm.stages import inference
from farm.stages.inference import (
    Batch,
    Decoding,
    completed,
    detect,
    detect_all,
    in_network_frame,
    network_batch,
)


@dataclass
class Session:
    """Finds the box 8 8 16 16 of this label in each image; notes what it was run on."""

    label: int = 0
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def run(self, images: Floats) -> dict[str, Any]:
        self.seen.append(images.shape)
        dets = np.tile(np.float32([8, 8, 16, 16, 0.9]), (len(images), 1, 1))
        return {"dets": dets, "labels": np.full((len(images), 1), self.label)}


def batches(*names: str, size: int = 1) -> Iterator[Batch]:
    """One batch for each image, filled up to `size`; network pixels are twice the original's."""
    for name in names:
        meta = ImageMeta(1, name, 16, 16, 32, 32, 32, 32, 2.0, 2.0)
        yield np.zeros((size, 3, 32, 32), np.float32), [meta]


def test_boxes_come_back_in_the_original_image_and_fillers_have_none() -> None:
    found = list(detect(Session(), batches("a.png", "b.png", size=3), Decoding(1)))
    assert [one.boxes.tolist() for one in found] == [[[4, 4, 8, 8]]] * 2


def test_boxes_stay_in_the_network_frame_where_that_is_asked() -> None:
    (found,) = detect(Session(), in_network_frame(batches("a.png")), Decoding())
    assert found.boxes.tolist() == [[8, 8, 16, 16]]
    images = np.zeros((2, 3, 64, 32), np.float32)
    assert len(list(detect(Session(), [network_batch(images)], Decoding()))) == 2


def test_a_batch_runs_when_its_first_image_is_asked_for() -> None:
    session = Session()
    found = detect(session, batches("a.png", "b.png"), Decoding())
    assert session.seen == []
    next(found)
    assert len(session.seen) == 1


@dataclass
class Counting(Session):
    """Finds as many boxes in the n-th batch as n; notes in which thread it ran."""

    threads: set[int] = field(default_factory=set)

    def run(self, images: Floats) -> dict[str, Any]:
        self.threads.add(threading.get_ident())
        found = super().run(images)
        count = len(self.seen)
        return {"dets": found["dets"].repeat(count, 1), "labels": found["labels"].repeat(count, 1)}


NAMES = [f"{i}.png" for i in range(7)]


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_all_images_have_the_same_detections_in_order_with_a_second_thread(
    count: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "usable_cores", lambda: cores)
    session, decoders = Counting(), set()
    monkeypatch.setattr(
        inference, "from_outputs",
        lambda outputs: decoders.add(threading.get_ident()) or from_outputs(outputs),
    )  # fmt: skip
    found = detect_all(session, batches(*NAMES[:count], size=2), Decoding(1), 1)
    assert [len(one) for one in found] == list(range(1, count + 1))
    assert all((one.boxes == [4, 4, 8, 8]).all() for one in found)
    here = {threading.get_ident()} if count else set()
    assert session.threads == here
    assert (decoders == here) == (cores == 1 or not count)


@pytest.mark.parametrize("cores", [1, 2])
def test_what_fails_in_either_thread_is_raised(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "usable_cores", lambda: cores)
    before = threading.active_count()
    with pytest.raises(LabelOutOfRange):
        detect_all(Session(label=4), batches(*NAMES), Decoding(4), 1)

    def broken() -> Iterator[Batch]:
        yield from batches(*NAMES[:3])
        raise OSError("the map is gone")

    with pytest.raises(OSError, match="the map is gone"):
        detect_all(Session(), broken(), Decoding(1), 1)

    class Failing:
        def run(self, images: Floats) -> dict[str, Any]:
            raise WrongOutputs("no more")

    with pytest.raises(WrongOutputs, match="no more"):
        detect_all(Failing(), batches(*NAMES), Decoding(1), 1)
    assert threading.active_count() == before


@pytest.mark.parametrize("label", [4, -1])
def test_a_label_out_of_range_is_named_with_the_classes_and_the_image(label: int) -> None:
    found = detect(Session(label), batches("a.png", "b.png"), Decoding(classes=4))
    with pytest.raises(LabelOutOfRange) as error:
        list(found)
    assert f"it finds label {label} in a.png, and has 4 classes" in str(error.value)
    assert len(list(detect(Session(label), batches("a.png"), Decoding()))) == 1  # not counted


def test_outputs_of_another_form_are_named_with_their_shapes() -> None:
    class Wrong:
        def run(self, images: Floats) -> dict[str, Any]:
            return {"dets": np.zeros((1, 2, 4)), "labels": np.zeros((1, 2))}

    with pytest.raises(WrongOutputs, match=r"gives dets \[1, 2, 4\], labels \[1, 2\]; expected"):
        list(detect(Wrong(), batches("a.png"), Decoding()))


def test_a_suppression_is_done_only_where_the_engine_ends_before_it() -> None:
    boxes = np.float32([[[0, 0, 8, 8], [0, 0, 8, 8]]])
    outputs = {"boxes": boxes, "scores": np.float32([[0.9, 0.8]]), "labels": np.zeros((1, 2))}
    how = Decoding(suppression=Suppression(0.5, False, 10))
    assert set(completed(outputs, how)) == {"dets", "labels"}
    assert np.count_nonzero(completed(outputs, how)["dets"][0, :, 4]) == 1
    assert completed(outputs, Decoding()) is outputs
    ended = Session().run(np.zeros((1, 3, 8, 8), np.float32))
    assert completed(ended, how) is ended


# Comparison ---------------------------------------------------------------------------------


def boxes(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def test_lost_added_and_moved_boxes_are_counted_apart() -> None:
    reference = boxes((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.9, 0), (40, 0, 50, 10, 0.9, 0))
    engine = boxes((0, 0, 10, 10, 0.9, 0), (23, 0, 33, 10, 0.9, 0), (60, 0, 70, 10, 0.9, 0))
    found = compare([reference], [engine], Tolerance())
    assert (found.boxes, found.matched, found.lost, found.added, found.moved) == (4, 1, 1, 1, 1)


@pytest.mark.parametrize(("least", "same"), [(0.94, True), (0.96, False)])
def test_masks_may_be_judged_by_their_mean(least: float, same: bool) -> None:
    ones = np.ones(2, np.float32)
    pairs = {
        "reference_score": ones, "engine_score": ones, "iou": ones, "box_diff_px": 0 * ones,
        "mask_iou": np.float32([0.9, 1.0]),
    }  # fmt: skip
    found = agreement(pairs, Tolerance(min_mask_iou=0, min_mean_mask_iou=least))
    assert (found.reason is None) == same and found.mean_mask_iou == pytest.approx(0.95)
    if not same:
        assert found.reason == "masks overlap by 0.950 on average, expected 0.96"


@needs_packages
def test_the_table_of_models_says_what_became_of_the_boxes() -> None:
    from farm.models.verdict import SAME, with_agreement

    empty = Trial(opset=17, kind="fixed", runtime="openvino")

    def trial(*rows: tuple[float, float, float, float, float, int]) -> Trial:
        return with_agreement(empty, compare([boxes(one, other)], [boxes(*rows)], SAME))

    one, other = (0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.9, 1)
    assert trial(one, other).reason is None and trial(one, other).boxes == 2
    assert trial(one).reason == "of 2 boxes 1 are lost, 0 added, 0 overlap less than 0.99"
    assert trial(one, (20, 0, 30, 10, 0.85, 1)).reason == "scores differ by 5.0e-02"
    nothing: Agreement = compare([boxes()], [boxes()], SAME)
    assert nothing.reason and with_agreement(empty, nothing).reason is None  # at one of the sizes
