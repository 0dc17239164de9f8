"""Data sets in the form of Pascal VOC: read as MMDetection reads them, and with its mAP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT

from farm import specs
from farm.config.loader import load_matrix
from farm.datasets import coco, open_dataset, voc
from farm.datasets.annotations import load_annotations
from farm.datasets.coco_evaluators import Rows, Truth
from farm.datasets.mean_ap import Rule, mean_average_precision
from farm.detections import Detections, ImageMeta
from farm.errors import InputError
from farm.plan import make_plan

XML = """<annotation><size><width>160</width><height>120</height><depth>3</depth></size>
{objects}</annotation>"""
OBJECT = (
    "<object><name>{0}</name><difficult>{1}</difficult><bndbox><xmin>{2}</xmin><ymin>{3}</ymin>"
    "<xmax>{4}</xmax><ymax>{5}</ymax></bndbox></object>"
)
Objects = dict[str, list[tuple[Any, ...]]]
FEW: Objects = {
    "000001": [("cat", 0, 11, 21, 60, 80), ("dog", 1, 1, 1, 30, 30)],
    "000002": [("dog", 0, "5.9", 5, 50, 50)],
    "000003": [],
}


def made(root: Path, objects: Objects = FEW) -> Path:
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for name, own in objects.items():
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(b"an image")
        text = XML.format(objects="".join(OBJECT.format(*one) for one in own))
        (root / "Annotations" / f"{name}.xml").write_text(text)
    (root / "ImageSets/Main/test.txt").write_text("000002\n000001\n")
    return root


def opened(root: Path, folder: Path, **options: Any) -> dict[str, Any]:
    values = {"root": specs.File(str(root), ""), **options}
    dataset = specs.OtherDataset("voc", tuple(sorted(values.items())))
    images, file = open_dataset(dataset, folder)
    assert images == root
    return load_annotations(file)


def test_boxes_begin_at_0_and_difficult_objects_are_crowds(tmp_path: Path) -> None:
    found = opened(made(tmp_path / "VOC2007"), tmp_path)
    assert [one["file_name"] for one in found["images"]] == [
        f"JPEGImages/00000{i}.jpg" for i in (1, 2, 3)
    ]
    assert [one["name"] for one in found["categories"]] == list(voc.CLASSES)
    first, second, third = found["annotations"]
    assert first["bbox"] == [10, 20, 49, 59] and first["iscrowd"] == 0
    assert second["bbox"] == [0, 0, 29, 29] and second["iscrowd"] == 1
    assert third["bbox"] == [4, 4, 45, 45] and third["image_id"] == 2
    assert found["mean_ap"] == {"points": 11, "offset": 1}


def test_a_split_has_its_images_in_its_order_and_classes_may_be_named(tmp_path: Path) -> None:
    root = made(tmp_path / "own")
    found = opened(root, tmp_path, split="test", classes=("dog", "cow"), map="11-point")
    assert [one["file_name"][-5] for one in found["images"]] == ["2", "1"]
    assert [one["name"] for one in found["categories"]] == ["dog", "cow"]
    assert len(found["annotations"]) == 2
    assert found["mean_ap"] == {"points": 11, "offset": 1}
    assert opened(root, tmp_path)["mean_ap"] == {"points": 0, "offset": 1}
    assert opened(root, tmp_path, split="ImageSets/Main/test.txt")["images"] == found["images"]


def test_a_list_of_images_may_have_names_with_spaces_and_the_flags_of_a_class(
    tmp_path: Path,
) -> None:
    root = made(tmp_path / "own", {"IMG 1": [("cat", 0, 1, 1, 9, 9)], "b": []})
    (root / "ImageSets/Main/test.txt").write_text("IMG 1  1\nb -1\n")
    found = opened(root, tmp_path, split="test")
    assert [one["file_name"] for one in found["images"]] == [
        "JPEGImages/IMG 1.jpg", "JPEGImages/b.jpg",
    ]  # fmt: skip


def test_classes_that_are_not_pascals_are_those_of_the_files(tmp_path: Path) -> None:
    found = opened(
        made(tmp_path / "own", {"a": [("nut", 0, 1, 1, 9, 9), ("bolt", 0, 1, 1, 9, 9)]}), tmp_path
    )
    assert [one["name"] for one in found["categories"]] == ["bolt", "nut"]


def test_images_may_lie_beside_the_files_and_be_png(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(XML.format(objects=OBJECT.format("nut", 0, 1, 1, 9, 9)))
    (tmp_path / "a.png").write_bytes(b"an image")
    found = opened(tmp_path, tmp_path / "out", images=".", annotations=".")
    assert found["images"][0]["file_name"] == "a.png"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Annotations/000001.xml", "<annotation><object>", "000001.xml: not readable XML"),
        ("Annotations/000001.xml", XML.format(objects="<object/>"), "an object has no `name`"),
        (
            "Annotations/000001.xml",
            XML.format(objects=OBJECT.format("cat", 0, "nan", 1, 9, 9)),
            "000001.xml: a box has 'nan', expected a number of pixels",
        ),
        (
            "Annotations/000001.xml",
            XML.format(objects=OBJECT.format("cat", 0, 9, 1, 2, 9)),
            "000001.xml: a box ends before it begins",
        ),
        (
            "Annotations/000001.xml",
            '<?xml version="1.0" encoding="gbk"?><annotation/>',
            "000001.xml: not readable XML",
        ),
        ("ImageSets/Main/test.txt", "\n", "it names no image"),
        ("ImageSets/Main/test.txt", "000009\n", "000009.xml: there is no such annotation file"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, file: str, text: str, message: str) -> None:
    root = made(tmp_path / "own")
    (root / file).write_text(text)
    with pytest.raises(InputError) as error:
        opened(root, tmp_path, split="test")
    assert message in str(error.value)


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"splits there: test"):
        opened(made(tmp_path / "own"), tmp_path, split="val")


def test_the_content_of_annotations_and_the_sizes_of_images_are_in_the_keys(tmp_path: Path) -> None:
    made(tmp_path / "data")
    demo = PROJECT / "matrices" / "demo"
    (tmp_path / "m.yaml").write_text(
        f"name: v\nmodels: {{a: {{config: {demo}/onestage.py, checkpoint: {demo}/onestage.pth}}}}\n"
        "shapes: {s: {opt: 160x160}}\nruntimes: [onnxruntime]\n"
        "dataset: {type: voc, root: data, split: test}\n"
    )

    def key() -> str:
        plan = make_plan(load_matrix(tmp_path / "m.yaml"))
        assert not plan.missing
        (step,) = plan.of_stage("check")
        return step.key

    first = key()
    file = tmp_path / "data/Annotations/000003.xml"
    file.write_text(file.read_text().replace("160", "161"))
    second = key()
    (tmp_path / "data/JPEGImages/000003.jpg").write_bytes(b"longer than before")
    assert len({first, second, key()}) == 3


def _scene(seed: int) -> tuple[list[dict[str, Any]], list[list[Any]]]:
    """MMDetection's annotations and results of 12 images with 3 classes."""
    random, annotations, results = np.random.default_rng(seed), [], []
    for _ in range(12):
        count = int(random.integers(0, 6))
        low = random.integers(0, 80, (count, 2))
        boxes = np.hstack([low, low + random.integers(4, 60, (count, 2))]).astype(np.float32)
        labels, hard = random.integers(0, 3, count), random.random(count) < 0.2
        annotations.append(
            {"bboxes": boxes[~hard], "labels": labels[~hard],
             "bboxes_ignore": boxes[hard], "labels_ignore": labels[hard]}
        )  # fmt: skip
        near = np.repeat(boxes, 3, 0) + random.normal(0, 5, (3 * count, 4))
        found = np.vstack([near, np.sort(random.uniform(0, 140, (4, 2, 2)), 1).reshape(4, 4)])
        rows = np.hstack([found, random.random((len(found), 1))]).astype(np.float32)
        own = np.concatenate([np.repeat(labels, 3), random.integers(0, 3, 4)])
        results.append([rows[own == label] for label in range(3)])
    return annotations, results


def _truth(annotations: list[dict[str, Any]]) -> dict[str, Any]:
    objects = [
        {"image_id": image, "category_id": int(label), "iscrowd": crowd,
         "bbox": [*map(float, box[:2]), *map(float, box[2:] - box[:2])]}
        for image, one in enumerate(annotations)
        for crowd, end in enumerate(("", "_ignore"))
        for box, label in zip(one[f"bboxes{end}"], one[f"labels{end}"], strict=True)
    ]  # fmt: skip
    return {"annotations": objects}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rule", [Rule(points, offset) for points in (0, 11) for offset in (0, 1)])
def test_map_is_that_of_mmdet(seed: int, rule: Rule) -> None:
    from farm.sources.mmdet import compat  # noqa: F401

    # isort: split
    from mmdet.core import eval_map

    annotations, results = _scene(seed)
    rows = [
        (image, label, *row)
        for image, of_class in enumerate(results)
        for label, own in enumerate(of_class)
        for row in own
    ]
    table = np.array(rows, np.float64)
    boxes = np.hstack([table[:, 2:4], table[:, 4:6] - table[:, 2:4]])
    ids = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    found = mean_average_precision(
        Truth(_truth(annotations), range(12), range(3)), Rows(*ids, table[:, 6], boxes), rule
    )
    name = "voc07" if rule.points else ["a", "b", "c"]
    expected, _ = eval_map(
        results, annotations, dataset=name, logger="silent", nproc=1,
        use_legacy_coordinate=bool(rule.offset),
    )  # fmt: skip
    assert 0.1 < expected < 0.9
    assert found == pytest.approx(float(expected), abs=1e-6)


def test_a_second_box_on_an_object_is_false_and_one_on_a_difficult_object_is_neither() -> None:
    truth = Truth(
        {"annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "iscrowd": 0},
            {"image_id": 1, "category_id": 1, "bbox": [50, 50, 10, 10], "iscrowd": 1},
        ]}, [1], [1, 2],
    )  # fmt: skip

    def found(*boxes: tuple[float, ...]) -> float | None:
        count = len(boxes)
        ids, scores = np.ones(count, np.int64), np.linspace(0.9, 0.5, count)
        return mean_average_precision(truth, Rows(ids, ids, scores, np.array(boxes, float)), Rule())

    on, hard, off = (0.0, 0, 10, 10), (50.0, 50, 10, 10), (90.0, 90, 5, 5)
    assert found(on) == 1 and found(hard, hard, on) == 1 and found(on, on) == 1
    assert found(off, on) == 0.5 and found(hard) == 0
    assert (
        mean_average_precision(
            Truth({"annotations": []}, [1], [1]),
            Rows(*(np.zeros(0, np.int64),) * 2, np.zeros(0), np.zeros((0, 4))),
            Rule(),
        )
        is None
    )


def test_an_evaluation_has_coco_s_figures_and_the_data_sets_own(tmp_path: Path) -> None:
    found = opened(made(tmp_path / "VOC2012"), tmp_path, classes=("cat", "dog"))
    path = tmp_path / "prepared.json"
    path.write_text(json.dumps(found))
    metas = [ImageMeta(i, f"{i}", *(120, 160) * 3, 1.0, 1.0) for i in (1, 2, 3)]
    boxes = [[10, 20, 59, 79], [4, 4, 49, 49]]
    detections = [
        Detections(np.array([box], np.float32), np.array([0.9], np.float32), np.array([label]))
        for label, box in enumerate(boxes)
    ]
    detections.append(
        Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    )
    figures = coco.average_precision(path, detections, metas, ("cat", "dog"), False)
    assert figures["box_ap"] == pytest.approx(1) and figures["voc_map"] == 1.0
    del found["mean_ap"]
    path.write_text(json.dumps(found))
    assert "voc_map" not in coco.average_precision(path, detections, metas, ("cat", "dog"), False)
