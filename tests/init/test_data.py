"""`farm init` recognises a data set by its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.errors import InputError
from farm.init import data

COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "height": 9, "width": 9}],
    "annotations": [],
    "categories": [{"id": 3, "name": "bolt"}, {"id": 1, "name": "nut"}],
}


def coco(file: Path, images: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(COCO))
    (images / "a.jpg").touch()
    return file


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("val.json", "val"),
        ("annotations.json", "images"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/val.json", "images/val"),
        ("val.json", "."),
    ],
)
def test_images_are_found_where_data_sets_have_them(file: str, images: str, tmp_path: Path) -> None:
    coco(tmp_path / file, tmp_path / images)
    found = data.recognised(str(tmp_path / file), None)
    assert found.entry["images"] == (tmp_path / images).resolve()
    assert (found.images, found.classes, found.limit) == (1, ("bolt", "nut"), None)


def test_a_folder_with_one_annotation_file_is_enough(tmp_path: Path) -> None:
    file = coco(tmp_path / "annotations" / "val.json", tmp_path / "val")
    assert data.recognised(str(tmp_path), None).entry["annotations"] == file
    (tmp_path / "train.json").write_text("{}")
    with pytest.raises(InputError, match=r"several \.json files: name one of annotations/val.json"):
        data.recognised(str(tmp_path), None)


def test_the_folder_of_images_can_be_named(tmp_path: Path) -> None:
    file = coco(tmp_path / "x" / "val.json", tmp_path / "pictures")
    found = data.recognised(str(file), str(tmp_path / "pictures"))
    assert found.entry["images"] == tmp_path / "pictures"


def test_a_folder_in_pascal_vocs_form_is_one(tmp_path: Path) -> None:
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
    text = f"<annotation><object><name>nut</name>{box}</object></annotation>"
    for name in ("a", "b"):
        (tmp_path / f"Annotations/{name}.xml").write_text(text)
        (tmp_path / f"JPEGImages/{name}.jpg").touch()
    found = data.recognised(str(tmp_path), None)
    assert found.entry == {"type": "voc", "root": tmp_path} and found.images == 2
    (tmp_path / "ImageSets/Main/val.txt").write_text("b\n")
    found = data.recognised(str(tmp_path), None)
    assert found.entry["split"] == "val" and (found.images, found.classes) == (1, ("nut",))


def test_of_a_large_data_set_a_first_matrix_has_a_part(tmp_path: Path) -> None:
    file = coco(tmp_path / "val.json", tmp_path / "val")
    file.write_text(json.dumps({**COCO, "images": COCO["images"] * 500}))
    assert data.recognised(str(file), None).limit == 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "not an annotation file in COCO's format"),
        ("{", "not an annotation file in COCO's format"),
        ('{"categories": [{"id": 1, "name": "a"}]}', "it has no list of images"),
        (
            '{"categories": [{"id": 1, "name": "a"}], "images": [{"id": 1}]}',
            "its first image has no 'file_name'",
        ),
        (json.dumps(COCO), "the image 'a.jpg' of "),
    ],
)
def test_a_wrong_file_is_named_with_what_is_expected(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "val.json").write_text(content)
    with pytest.raises(InputError) as error:
        data.recognised(str(tmp_path / "val.json"), None)
    assert message in str(error.value) and "val.json" in str(error.value)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no .*nowhere; expected an annotation file"):
        data.recognised(str(tmp_path / "nowhere"), None)
    with pytest.raises(InputError, match="has no annotation file; expected an annotation file"):
        data.recognised(str(tmp_path), None)
    file = coco(tmp_path / "val.json", tmp_path / "val")
    with pytest.raises(InputError, match="--images: there is no folder"):
        data.recognised(str(file), str(tmp_path / "vla"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"'a.jpg' .* is not in .*empty"):
        data.recognised(str(file), str(tmp_path / "empty"))
