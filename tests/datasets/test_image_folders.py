"""Folders of images: links, and names that are no text, matter only where an image is one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from farm.datasets import image_files
from farm.datasets import image_files as calibration
from farm.errors import InputError
from farm.plan.content.files import image_folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        assert cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), np.uint8))
    return folder


def digest(folder: Path) -> str:
    return image_folder(str(folder), folder.parent).digest


def described(folder: Path, tmp_path: Path) -> list[str]:
    calibration.describe(folder, None, tmp_path / "made.json")
    rows = json.loads((tmp_path / "made.json").read_text())["images"]
    return [row["file_name"] for row in rows]


def test_a_link_to_nothing_matters_only_if_it_is_an_image(images: Path, tmp_path: Path) -> None:
    (images / "gone.png").symlink_to(tmp_path / "nowhere")
    (images / "itself.png").symlink_to(images / "itself.png")
    before = digest(images)
    image_files.require_images([{"file_name": "a.png"}], images)
    for name in ("gone.png", "itself.png"):
        with pytest.raises(InputError, match=f"1 of 1 images are not there, the first is '{name}'"):
            image_files.require_images([{"file_name": name}], images)
    assert described(images, tmp_path) == ["a.png", "b.png"]
    (tmp_path / "nowhere").write_bytes(b"x")
    assert digest(images) != before


def test_a_name_that_is_no_utf8_is_a_name(images: Path, tmp_path: Path) -> None:
    before = digest(images)
    odd = os.fsencode(images) + b"/\xff\xfe.png"
    os.rename(os.fsencode(images / "b.png"), odd)
    assert digest(images) != before
    first, second = described(images, tmp_path)
    assert first == "a.png" and os.fsencode(second) == b"\xff\xfe.png"
    image_files.require_images([{"file_name": second}], images)


def test_files_in_linked_folders_are_of_the_folder(images: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "part").symlink_to(images)
    before = digest(whole)
    assert described(whole, tmp_path) == ["part/a.png", "part/b.png"]
    (images / "b.png").write_bytes(b"another size")
    assert digest(whole) != before


@pytest.mark.parametrize("target", [".", "..", "/", "other"])
def test_a_link_that_leads_back_is_not_followed(target: str, images: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "back").symlink_to(images)
    (images / "link").symlink_to(tmp_path / target if target == "other" else target)
    assert described(images, tmp_path) == ["a.png", "b.png"]


def test_a_loop_of_links_is_no_image_folder(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with pytest.raises(InputError, match="is no path"):
        image_folder("one", tmp_path)
