"""Annotation files: refused with a reason, or evaluated as COCO means it. No wrong figure, no hang.

`cases/annotations` holds one fault or oddity each, over two images with an object each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import PROJECT
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from farm.datasets import coco, coco_evaluators, image_files, segmentations, synthetic
from farm.datasets.annotations import load_annotations, read_annotations
from farm.detections import Detections, ImageMeta
from farm.errors import InputError, StepFailed
from farm.specs import CocoDataset, File, ModelFacts
from farm.stages.check import _check_dataset

CASES = PROJECT / "tests" / "cases" / "annotations"
CLASSES = ("circle", "square")
Document = dict[str, Any]

# By case: a part of the reason. For models with masks and for those without.
REFUSED = {
    "area_big": "annotations[0] (id 1): 'area' is 1000000",
    "area_nan": "annotations[0] (id 1): 'area' is nan",
    "area_neg": "annotations[0] (id 1): 'area' is -1",
    "bbox_bool": "annotations[0] (id 1): 'bbox' is [True, True, True, True]",
    "bbox_huge": "annotations[0] (id 1): 'bbox' is [0, 0, 1e+308, 1e+308]",
    "bbox_nan": "annotations[0] (id 1): 'bbox' is [nan, nan, nan, nan]",
    "bbox_neg": "annotations[0] (id 1): 'bbox' is [5, 5, -20, -20]",
    "bbox_none": "annotations[0] (id 1): 'bbox' is [None, None, None, None]",
    "bbox_numstr": "annotations[0] (id 1): 'bbox' is ['5', '5', '20', '20']",
    "bigint": "not a readable JSON file",
    "cat_id_big": "categories[0] (id 1180591620717411303424): 'id' is",
    "classes_other": "the model's class 'circle' is not among",
    "del_bbox": "annotations[0] (id 1) has no 'bbox'",
    "del_id": "annotations[0] (id None) has no 'id'",
    "del_image_id": "annotations[0] (id 1) has no 'image_id'",
    "dup_ann_id": "annotations[0] and annotations[1] have the same id 1",
    "dup_cat_name": "categories[0] and categories[1] have the same name 'circle'",
    "empty": "not a readable JSON file",
    "images_dict": "it needs the lists images, annotations, categories",
    "img_id_big": "images[0] (id 1180591620717411303424): 'id' is",
    "img_id_true": "images[0] (id True): 'id' is True",
    "iscrowd_nan": "annotations[0] (id 1): 'iscrowd' is nan; expected 0 or 1",
    "iscrowd_none": "annotations[0] (id 1): 'iscrowd' is None; expected 0 or 1",
    "iscrowd_str": "annotations[0] (id 1): 'iscrowd' is '0'; expected 0 or 1",
    "iscrowd_two": "annotations[0] (id 1): 'iscrowd' is 2; expected 0 or 1",
    "name_abs": "the image '/etc/passwd' lies outside of the folder",
    "name_climb": "the image '../../../../etc/passwd' lies outside of the folder",
    "name_dot": "1 of 2 images are not there, the first is '.'",
    "name_empty": "1 of 2 images are not there, the first is ''",
    "name_long": "1 of 2 images are not there, the first is 'aaaa",
    "name_missing": "1 of 2 images are not there, the first is 'zzz.png'",
    "name_slash": "1 of 2 images are not there, the first is 'a.png/'",
    "name_sub": "expected a path inside of it, without '..'",
    "nanword": "it needs the lists images, annotations, categories",
    "no_images": "it has no images",
}
REFUSED_WITH_MASKS = {
    "del_segmentation": "annotations[0] (id 1): its segmentation is missing or empty",
    "no_size": "images[0] (id 1) has the height None and the width 64",
    "seg_empty": "annotations[0] (id 1): its segmentation is missing or empty",
    "seg_huge_poly": "not further outside of its 64x64 image than that is large",
    "seg_nan_poly": "has the polygon [nan, nan, nan, nan, nan, nan]; expected finite numbers",
    "seg_neg_poly": "not further outside of its 64x64 image than that is large",
    "seg_odd_poly": "has [1, 2, 3, 4, 5]; expected a polygon [x, y, ...] of at least three points",
    "seg_rle_bytes_over": "has the counts 'ooooooooooooooooooooo0': no run lengths",
    "seg_rle_ints_bad": "has counts for 6 pixels; its image has 64x64",
    "seg_rle_ints_huge": "has counts for 1099511627776 pixels",
    "seg_rle_ints_over": "has counts for 204800 pixels; its image has 64x64",
    "seg_rle_no_size": "has the size None; expected [height, width] of its image, [64, 64]",
    "seg_rle_size_huge": "has the size [1000000, 1000000]; expected",
    "seg_rle_size_neg": "has the size [-1, 64]; expected",
    "seg_rle_size_zero": "has the size [0, 0]; expected",
    "seg_short_poly": "has [1, 2]; expected a polygon",
    "seg_str_poly": "has the polygon ['a', 'a', 'a', 'a', 'a', 'a']; expected finite numbers",
    "size_neg": "images[0] (id 1) has the height -64",
    "size_str": "images[0] (id 1) has the height '64'",
}
# AP of a detector that finds every object: 1.0, but where COCO's tools count otherwise.
OTHER_AP = {"no_annotations": None, "bbox_zero": 0.5}
NOTES = {
    "ann_id_zero": "an annotation has the id 0",
    "bbox_zero": "1 of 2 boxes have no width or height",
    "del_area": "1 of 2 annotations have no 'area'",
    "dup_file": "1 of 2 images have the file_name of another one",
    "no_annotations": "no image has an annotation",
    "size_neg": "'a.png' is 64x64 (width x height), not 64x-64",
    "size_str": "'a.png' is 64x64 (width x height), not 64x'64'",
}
NAMES = sorted(path.stem for path in CASES.glob("*.json") if not path.stem.startswith("id_from"))


def checked(
    path: Path, folder: Path, masks: bool, classes: tuple[str, ...] = CLASSES
) -> tuple[str, ...]:
    """Stage `check` of a data set for a model of these classes: its notes."""
    dataset = CocoDataset(File(str(folder), ""), File(str(path), ""))
    return _check_dataset(dataset, ModelFacts(classes, masks, "[]"), masks).notes


def perfect(document: Document, masks: bool) -> tuple[list[Detections], list[ImageMeta]]:
    """Every object of every image, its mask too, as a detector would answer."""
    truth = COCO()
    truth.dataset = document
    truth.createIndex()
    labels = {category["id"]: i for i, category in enumerate(document["categories"])}
    found, metas = [], []
    for image in document["images"]:
        objects = [one for one in truth.imgToAnns[image["id"]] if not one["iscrowd"]]
        boxes = np.array([one["bbox"] for one in objects], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        rles = tuple(map(truth.annToRLE, objects)) if masks else None
        classes = np.array([labels[one["category_id"]] for one in objects], np.int64)
        found.append(Detections(boxes, np.full(len(boxes), 0.9, np.float32), classes, rles=rles))
        side = (64, 64) * 3  # what images are prepared to takes no part in AP
        metas.append(ImageMeta(image["id"], image["file_name"], *side, 1.0, 1.0))
    return found, metas


def precision(document: Document, folder: Path, masks: bool = False) -> dict[str, Any]:
    """AP of that detector, by the file as stage `prepare` leaves it."""
    path = folder / "annotations.json"
    path.write_text(json.dumps(document))
    classes = [category["name"] for category in document["categories"]]
    return coco.average_precision(path, *perfect(document, masks), classes, masks)


# The cases ------------------------------------------------------------------------------------


def test_each_case_has_its_right_answer() -> None:
    assert {*REFUSED, *REFUSED_WITH_MASKS, *OTHER_AP, *NOTES} <= set(NAMES)
    assert not set(REFUSED) & {*REFUSED_WITH_MASKS, *OTHER_AP, *NOTES}


@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
@pytest.mark.parametrize("name", NAMES)
def test_a_case_is_refused_with_its_reason_or_counted_right(
    name: str, masks: bool, tmp_path: Path
) -> None:
    path = CASES / f"{name}.json"
    reason = REFUSED.get(name) or (REFUSED_WITH_MASKS.get(name) if masks else None)
    if reason:
        with pytest.raises(InputError) as error:
            checked(path, CASES / "images", masks)
        assert reason in str(error.value)
        assert str(error.value).startswith(str(CASES))
        assert len(str(error.value)) < len(str(CASES)) + 400
        return
    notes = checked(path, CASES / "images", masks)
    assert (NOTES.get(name, "") in "\n".join(notes)) if name in NOTES else not notes
    figures = precision(load_annotations(path), tmp_path, masks)
    for kind in ("box_ap", "mask_ap") if masks else ("box_ap",):
        # A box without sides has a mask all the same.
        expected = 1.0 if kind == "mask_ap" and name == "bbox_zero" else OTHER_AP.get(name, 1.0)
        assert figures[kind] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["seg_rle_ints_over", "seg_short_poly", "del_segmentation"])
def test_no_mask_is_evaluated_that_nobody_checked(name: str, tmp_path: Path) -> None:
    """As where a model's masks are seen only in what it finds. The first would never end."""
    document = load_annotations(CASES / f"{name}.json")
    found, metas = perfect(document, False)
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(document))
    with pytest.raises(StepFailed, match=r"AP of masks cannot be computed: .*its segmentation"):
        coco.average_precision(path, found, metas, CLASSES, True)
    assert coco.average_precision(path, found, metas, CLASSES, False)["box_ap"] > 0.99


# Ids from 0 -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    synthetic.draw(folder, 4, seed=7, size=160)
    return folder


def changed(drawn: Path, folder: Path, change: Callable[[Document], object]) -> Path:
    document = json.loads((drawn / "annotations.json").read_text())
    change(document)
    path = folder / "changed.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("name", ["id_from0", "id_from1"])
def test_a_perfect_detector_has_ap_1_wherever_ids_begin(name: str, tmp_path: Path) -> None:
    assert precision(load_annotations(CASES / f"{name}.json"), tmp_path)["box_ap"] == (
        pytest.approx(1.0)
    )


@pytest.mark.parametrize("first", [0, -3, -1])
def test_ids_from_0_or_below_are_counted_right_over_several_images(
    drawn: Path, tmp_path: Path, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renumber(document: Document) -> None:
        for i, one in enumerate(document["annotations"]):
            one["id"] = i + first

    path = changed(drawn, tmp_path, renumber)
    monkeypatch.setattr(coco_evaluators, "evaluator", lambda rows: coco_evaluators.by_pycocotools)
    raw = precision(json.loads(path.read_text()), tmp_path, masks=True)
    assert raw["box_ap"] < 0.95  # COCO's tools alone: this test can fail
    figures = precision(load_annotations(path), tmp_path, masks=True)
    assert figures["box_ap"] == figures["mask_ap"] == pytest.approx(1.0)
    assert "the id 0" in " ".join(read_annotations(path).notes)


def test_nothing_found_is_ap_0_and_undefined_where_there_are_no_objects(
    drawn: Path, tmp_path: Path
) -> None:
    nothing = Detections(
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    )
    _, metas = perfect(load_annotations(drawn / "annotations.json"), False)
    figures = coco.average_precision(
        drawn / "annotations.json", [nothing] * 4, metas, synthetic.CLASSES, False
    )
    assert figures["box_ap"] == figures["box_ap_s"] == 0.0
    assert figures["box_ap_l"] is None


# What is filled in ----------------------------------------------------------------------------


def test_a_missing_area_is_that_of_the_mask_or_the_box(drawn: Path, tmp_path: Path) -> None:
    def strip(document: Document) -> None:
        for i, one in enumerate(document["annotations"]):
            del one["area"], one["iscrowd"]
            if i % 3 == 1:
                x, y, w, h = one["bbox"]
                one["segmentation"] = [[x, y, x + w, y, x, y + h]]
            elif i % 3 == 2:
                one["segmentation"] = [[1, 2]]  # of no use, and of no harm without masks

    path = changed(drawn, tmp_path, strip)
    whole = json.loads((drawn / "annotations.json").read_text())["annotations"]
    read = read_annotations(path)
    for i, (one, before) in enumerate(zip(read.document["annotations"], whole, strict=True)):
        box = before["bbox"][2] * before["bbox"][3]
        assert one["area"] == [before["area"], box / 2, box][i % 3]
        assert one["iscrowd"] == 0
    assert f"{len(whole)} of {len(whole)}" in read.notes[0]
    assert "no 'iscrowd'" in read.notes[0] and "no 'area'" in read.notes[1]
    assert precision(read.document, tmp_path)["box_ap"] == pytest.approx(1.0)


def test_run_lengths_are_read_as_coco_writes_them() -> None:
    random = np.random.default_rng(5)
    for _ in range(60):
        height, width = random.integers(1, 50, 2).tolist()
        mask = np.asfortranarray(random.random((height, width)) < random.random(), np.uint8)
        rle = coco_mask.encode(mask)
        text = {"size": [height, width], "counts": rle["counts"].decode()}
        assert segmentations.fault(text, (height, width)) is None
        assert segmentations.area(text) == int(coco_mask.area(rle))
        assert segmentations.fault(text, (height, width + 1))
    large = np.zeros((4000, 5000), np.uint8, order="F")
    large[5:3990, 20:4000] = 1
    text = {"size": [4000, 5000], "counts": coco_mask.encode(large)["counts"].decode()}
    assert segmentations.area(text) == large.sum()


# Relatives of the cases -----------------------------------------------------------------------

ANY = {
    "annotations[0] (id 1): 'bbox' is {'x': 5}": {"bbox": {"x": 5}},
    "'bbox' is [5, 5, 20]": {"bbox": [5, 5, 20]},
    "'bbox' is [5, 5, inf, 20]": {"bbox": [5, 5, float("inf"), 20]},
    "'bbox' is [-100000000000, 5": {"bbox": [-(10**11), 5, 20, 20]},
    "'area' is None": {"area": None},
    "'area' is True": {"area": True},
    "'area' is '400'": {"area": "400"},
    "'area' is 20000000000.0": {"area": 2e10},
    "'iscrowd' is []": {"iscrowd": []},
    "'iscrowd' is 0.5": {"iscrowd": 0.5},
    "'id' is 1.0": {"id": 1.0},
    "'id' is 'a1'": {"id": "a1"},
    "'image_id' is [1]": {"image_id": [1]},
    "'category_id' is True": {"category_id": True},
    "its 'image_id' 9 is not among the images": {"image_id": 9},
    "its 'category_id' 0 is not among the categories": {"category_id": 0},
}
MASKS_ONLY = {
    "is 'text'; expected polygons": {"segmentation": "text"},
    "has 5; expected a polygon": {"segmentation": [5, 5, 25, 5, 25, 25]},
    "has [5, 5, 20, 20]; expected a polygon": {"segmentation": [[5, 5, 20, 20]]},
    "has [1, 1, 1, 1]; expected a polygon": {"segmentation": [[5, 5, 25, 5, 25, 25], [1, 1, 1, 1]]},
    "has the polygon [5, 5, True,": {"segmentation": [[5, 5, True, 5, 25, 25]]},
    "has the polygon [5, 5, None,": {"segmentation": [[5, 5, None, 5, 25, 25]]},
    "outline is longer than 4000000 pixels": {"segmentation": [[0, 0, 64, 64] * 40_000]},
    "has the counts None: expected": {"segmentation": {"size": [64, 64]}},
    "has the counts [4096.0]": {"segmentation": {"size": [64, 64], "counts": [4096.0]}},
    "has the counts [-1, 4097]": {"segmentation": {"size": [64, 64], "counts": [-1, 4097]}},
    "has the counts 'P': the text ends": {"segmentation": {"size": [64, 64], "counts": "P"}},
    "has the counts 'é'": {"segmentation": {"size": [64, 64], "counts": "é"}},
    "has counts for 0 pixels": {"segmentation": {"size": [64, 64], "counts": []}},
    "has the size [64.0, 64]": {"segmentation": {"size": [64.0, 64], "counts": [4096]}},
    "has the size [32, 128]": {"segmentation": {"size": [32, 128], "counts": [4096]}},
}


@pytest.fixture
def good() -> Document:
    document: Document = json.loads((CASES / "ann_id_zero.json").read_text())
    document["annotations"][0]["id"] = 1
    return document


@pytest.mark.parametrize("reason", [*ANY, *MASKS_ONLY])
def test_a_faulty_annotation_is_named_with_its_fault(
    reason: str, good: Document, tmp_path: Path
) -> None:
    path = tmp_path / "faulty.json"
    good["annotations"][0] |= {**ANY, **MASKS_ONLY}[reason]
    path.write_text(json.dumps(good))
    with pytest.raises(InputError) as error:
        read_annotations(path, mask_classes=CLASSES)
    assert reason in str(error.value) and "annotations[0] (id " in str(error.value)
    if reason in MASKS_ONLY:
        load_annotations(path)  # nothing uses its masks
        read_annotations(path, mask_classes=("square",))  # nor those of its class


@pytest.mark.parametrize("word", ["utf-8-sig", "utf-16", "utf-32"])
def test_any_encoding_of_unicode_is_read(word: str, good: Document, tmp_path: Path) -> None:
    path = tmp_path / "encoded.json"
    path.write_bytes(json.dumps(good).encode(word))
    assert len(load_annotations(path)["images"]) == 2


@pytest.mark.parametrize(
    "text",
    [b"\xff\xfe\x00", b"[" * 200_000, b"null", b'{"images": [null]}', b'\xc3\x28{"images": []}'],
)
def test_what_is_no_document_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "text.json"
    path.write_bytes(text)
    with pytest.raises(InputError, match=r"text\.json: not "):
        load_annotations(path)


def test_boxes_that_leave_the_image_and_yes_or_no_for_a_crowd_are_taken(
    good: Document, tmp_path: Path
) -> None:
    good["annotations"][0] |= {"bbox": [-10.5, -3, 90, 70], "iscrowd": False}
    good["annotations"][1] |= {"id": 7, "iscrowd": True, "ignore": 1, "score": float("nan")}
    path = tmp_path / "taken.json"
    path.write_text(json.dumps(good))
    document = load_annotations(path)
    assert [one["iscrowd"] for one in document["annotations"]] == [0, 1]
    assert precision(document, tmp_path)["box_ap"] == pytest.approx(1.0)


def test_how_many_more_faults_there_are_is_said(good: Document, tmp_path: Path) -> None:
    for one in good["annotations"]:
        one["bbox"] = None
    path = tmp_path / "faulty.json"
    path.write_text(json.dumps(good))
    with pytest.raises(InputError, match=r"\(id 1\): 'bbox' is None; .*\(1 more fault of"):
        load_annotations(path)


# Images ---------------------------------------------------------------------------------------


def test_masks_must_fit_their_images_and_boxes_that_may_not_are_noted(
    drawn: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for path in (drawn / "images").iterdir():
        cv2.imwrite(str(folder / path.name), cv2.imread(str(path)))
    first = folder / "000001.png"
    cv2.imwrite(str(first), cv2.imread(str(first))[:80])
    annotations = drawn / "annotations.json"
    said = r"'000001.png' is 160x80 \(width x height\), not 160x160"
    with pytest.raises(InputError, match=f"annotations.json: masks do not fit their .*{said}"):
        checked(annotations, folder, True, synthetic.CLASSES)
    (note,) = checked(annotations, folder, False, synthetic.CLASSES)
    assert note.startswith(f"{annotations}: boxes may not fit: '000001.png' is 160x80")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_image_is_as_large_as_opencv_decodes_it(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    image = {"file_name": path.name}
    for turned, flag in ((True, 1), (False, cv2.IMREAD_IGNORE_ORIENTATION | 1)):
        height, width = cv2.imread(str(path), flag).shape[:2]
        right, wrong = {"height": height, "width": width}, {"height": 20, "width": 41}
        assert not image_files.of_another_size([image | right], tmp_path, turned)
        assert image_files.of_another_size([image | wrong], tmp_path, turned)


@pytest.mark.parametrize("name", ["link/../a.png", "..", "sub/../../a.png", "nul\0", "\ud800.png"])
def test_no_name_leads_out_of_the_folder_or_ends_in_a_traceback(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.png").write_bytes(b"x")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError) as error:
        image_files.require_images([{"file_name": name}], folder)
    str(error.value).encode()
