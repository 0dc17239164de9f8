"""Arrays of results, read as files that anyone may have written."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farm.results import arrays

PAIRS = ("reference_score", "engine_score", "iou", "box_diff_px", "mask_iou")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.npz"


def floats(count: int = 2) -> Any:
    return np.arange(count, dtype=np.float32)


def pairs(**columns: Any) -> dict[str, Any]:
    return {name: floats() for name in PAIRS} | columns


def write(path: Path, columns: Mapping[str, Any]) -> Path:
    np.savez(path, **columns)
    return path


def test_pairs_with_and_without_the_later_column_are_read(path: Path) -> None:
    found = arrays.pairs(write(path, pairs(iou=np.array([0.5, np.nan], np.float32))))
    assert set(found) == set(PAIRS) and np.isnan(found["iou"][1]) and found["iou"][0] == 0.5
    assert "mask_score_diff" in arrays.pairs(write(path, pairs(mask_score_diff=floats())))
    assert len(arrays.pairs(write(path, {name: floats(0) for name in PAIRS}))["iou"]) == 0


def raw(count: int, **more: Any) -> dict[str, Any]:
    columns = {name: floats(count) for name in ("max_abs_diff", "max_rel_diff", "cosine")}
    return {"name": np.array(["a", "bc"][:count], "U2"), **columns, **more}


def test_raw_differences_have_one_output_at_least(path: Path) -> None:
    assert arrays.raw(write(path, raw(2)))["name"].tolist() == ["a", "bc"]
    assert arrays.raw(write(path, raw(1)))["cosine"].tolist() == [0.0]
    with pytest.raises(ValueError, match="it has no output"):
        arrays.raw(write(path, raw(0)))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({name: floats() for name in PAIRS[1:]}, "it has no array 'reference_score'"),
    "unknown": (pairs(other=floats()), "it has 'other', which is not expected"),
    "lengths": (pairs(iou=floats(3)), "its arrays differ in length"),
    "whole numbers": (pairs(iou=np.arange(2)), "expected one axis of 'f'"),
    "two axes": (pairs(iou=np.zeros((2, 2), np.float32)), "expected one axis of 'f'"),
    "no axis": (pairs(iou=np.float32(1)), "expected one axis of 'f'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_other_arrays_are_refused_by_name(kind: str, path: Path) -> None:
    columns, said = WRONG[kind]
    with pytest.raises(ValueError, match=said):
        arrays.pairs(write(path, columns))


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), **options)
    return file.getvalue()


def test_an_array_that_stands_there_twice_is_refused(path: Path) -> None:
    write(path, pairs())
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("iou.npy", npy(floats()))
    with pytest.raises(ValueError, match="it has an array twice"):
        arrays.pairs(path)


def test_what_unpacks_to_more_than_the_limit_is_not_unpacked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, pairs())
    size = sum(one.file_size for one in zipfile.ZipFile(path).infolist())
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(path.with_suffix(".z"), "w", 8) as small:
        for one in file.infolist():
            small.writestr(one.filename, file.read(one))
    packed = path.with_suffix(".z")
    assert packed.stat().st_size < size + 600
    monkeypatch.setattr(arrays, "MOST_BYTES", max(size, packed.stat().st_size))
    arrays.pairs(packed)
    monkeypatch.setattr(arrays, "read_bytes", lambda path, _: path.read_bytes())
    monkeypatch.setattr(arrays, "MOST_BYTES", size)
    arrays.pairs(packed)
    monkeypatch.setattr(arrays, "MOST_BYTES", size - 1)
    with pytest.raises(ValueError, match=f"it unpacks to more than {size - 1} bytes"):
        arrays.pairs(packed)


def test_samples_are_finite_and_not_negative(tmp_path: Path) -> None:
    path = tmp_path / "samples.npy"
    for values in ([0.0, 1.5], [2.0]):
        path.write_bytes(npy(np.array(values)))
        assert arrays.samples(path).tolist() == values
    for values in ([-0.1], [np.nan], [1.0, np.inf]):
        path.write_bytes(npy(np.array(values)))
        with pytest.raises(ValueError, match="a latency is negative or not finite"):
            arrays.samples(path)


def test_headers_are_held_against_what_is_there(tmp_path: Path) -> None:
    path, whole = tmp_path / "samples.npy", npy(np.array([1.0, 2.0]))
    for data, said in (
        (whole[:-8], "does not fit its"), (whole + b"x" * 8, "does not fit its"),
        (npy(np.array([1.0]), version=(3, 0)), r"an array of format \(3, 0\)"),
        (npy(np.array(["a"])), "expected one axis of 'f'"),
        (b"", "EOF|magic"),
    ):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(ValueError, match=said):
            arrays.samples(path)
    path.write_bytes(npy(np.array([1.0]), version=(2, 0)))
    assert arrays.samples(path).tolist() == [1.0]


def test_what_is_no_archive_is_refused(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 nothing more")
    with pytest.raises(ValueError, match=r"not a \.npz file"):
        arrays.pairs(path)
