"""Mistakes in a matrix: each is said at its line, in the user's words, with the nearest word."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.config import loader
from farm.config.document import load
from farm.config.loader import Matrix, load_matrix
from farm.errors import InputError

MATRIX = """\
name: own
models:
  a: {config: a.py, checkpoint: a.pth}
  o: {source: onnx, file: o.onnx, classes: [x], preprocess: {mean: [1, 2, 3]}}
shapes: {fixed: {opt: 64x64}}
runtimes: [onnxruntime]
dataset: {type: synthetic, count: 6}
targets: {cpu: {device: x}}
int8: {auto: {images: 2}}
verify: {images: 3}
measure: {seconds: 1}
calibration: {images: i}
include: [{models: [a]}]
exclude: [{models: [o]}]
racing: {max_ap_drop: 2}
"""


def read(tmp_path: Path, text: str = MATRIX, *overrides: str) -> Matrix:
    (tmp_path / "m.yaml").write_text(text)
    return load_matrix(tmp_path / "m.yaml", overrides)


def said(tmp_path: Path, text: str = MATRIX, *overrides: str) -> str:
    with pytest.raises(InputError) as error:
        read(tmp_path, text, *overrides)
    return str(error.value).replace(f"{tmp_path}/", "")


def test_the_matrix_is_right_as_it_is(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found.name == "own" and found.folder == tmp_path
    assert [cell.id for cell in found.cells] == ["a.op17.fixed.fp32.onnxruntime.cpu"]


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "nearest"),
    [
        ("name: own", "name: own\nruntime: 3", 2, "runtime", "runtimes"),
        ("checkpoint: a", "checkpont: a", 3, "models.a.checkpont", "checkpoint"),
        ("file: o", "fil: o", 4, "models.o.fil", "file"),
        ("mean:", "meen:", 4, "models.o.preprocess.meen", "mean"),
        ("opt: 64x64", "opt: 64x64, optt: 1", 5, "shapes.fixed.optt", "opt"),
        ("count: 6", "counts: 6", 7, "dataset.counts", "count"),
        ("device: x", "devise: x", 8, "targets.cpu.devise", "device"),
        ("images: 2", "imges: 2", 9, "int8.auto.imges", "images"),
        ("int8: {", "int8: {metod: x, ", 9, "int8.metod", "method"),
        ("images: 3", "imges: 3", 10, "verify.imges", "images"),
        ("images: 3", "max_scor_diff: 3", 10, "verify.max_scor_diff", "max_score_diff"),
        ("{seconds", "{secons", 11, "measure.secons", "seconds"),
        ("images: i", "images: i, limt: 3", 12, "calibration.limt", "limit"),
        ("include: [{models", "include: [{modls", 13, "include.0.modls", "models"),
        ("exclude: [{models", "exclude: [{opsts", 14, "exclude.0.opsts", "opsets"),
        ("{max_ap_drop", "{max_drop", 15, "racing.max_drop", "max_ap_drop"),
    ],
)
def test_an_unknown_key_is_said_with_the_nearest_known_one(
    tmp_path: Path, old: str, new: str, line: int, key: str, nearest: str
) -> None:
    assert old in MATRIX
    text = said(tmp_path, MATRIX.replace(old, new, 1))
    assert f"m.yaml:{line}: unknown key '{key}'; did you mean '{nearest}'?" in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("source: onnx", "source: onx", "m.yaml:4: unknown model source 'onx'; did you mean"),
        ("source: onnx", "source: 3", "m.yaml:4: unknown model source '3'"),
        ("type: synthetic", "type: syntetic", "m.yaml:7: unknown data set type 'syntetic'; did"),
        ("type: synthetic", "type: 3", "m.yaml:7: unknown data set type '3'"),
        ("{type: synthetic, count: 6}", "3", "m.yaml:7: 'dataset' needs a 'type': coco or voc or"),
        ("{config: a.py, checkpoint: a.pth}", "3",
         "m.yaml:3: 'models.a' is a mapping of keys to values, not 3"),
        ("{images: 3}", "3", "m.yaml:10: 'verify' is a mapping of keys to values, not 3"),
        ("{mean: [1, 2, 3]}", "[1]", "m.yaml:4: 'models.o.preprocess' is a mapping of keys to"),
        ("config: a.py, ", "", "m.yaml:3: 'models.a.config' is missing"),
        ("file: o.onnx, ", "", "m.yaml:4: 'models.o.file' is missing"),
        ("images: i", "limit: 3", "m.yaml:12: 'calibration.images' is missing"),
        ("name: own\n", "", "m.yaml:1: 'name' is missing"),
        ("runtimes: [onnxruntime]", "runtimes: []", "m.yaml:6: 'runtimes' is empty; give at least"),
        ("count: 6", "count: 0", "m.yaml:7: 'dataset.count': input should be greater than"),
        ("mean: [1, 2, 3]", "mean: [1, 2]", "m.yaml:4: 'models.o.preprocess.mean.2' is missing"),
        ("mean: [1, 2, 3]", "mean: [1, x, 3]", "m.yaml:4: 'models.o.preprocess.mean.1': input"),
        ("images: 3", "images: yes", "m.yaml:10: 'verify.images': a number is expected, not true"),
        ("seconds: 1", "seconds: true", "m.yaml:11: 'measure.seconds': a number is expected, not"),
        ("[{models: [o]}]", "[{models: [o, p]}]", "m.yaml:14: model 'p' is not defined"),
        ("[{models: [a]}]", "[{models: [a], shapes: [fixd]}]",
         "m.yaml:13: shape 'fixd' is not defined; did you mean 'fixed'?"),
        ("max_ap_drop: 2", "max_ap_drop: -1", "m.yaml:15: 'racing.max_ap_drop': input should be"),
        ("{max_ap_drop: 2}", "3", "m.yaml:15: 'racing' is a mapping of keys to values, not 3"),
        ("checkpoint: a.pth", "checkpoint: a.pth, targets: [gpu]",
         "m.yaml:3: target 'gpu' is not defined"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_in_the_users_words(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in MATRIX
    assert message in said(tmp_path, MATRIX.replace(old, new, 1))


def test_what_is_no_mapping_at_all_is_said_so(tmp_path: Path) -> None:
    assert said(tmp_path, "[1]") == "m.yaml:1: a matrix is a mapping of keys to values"
    for empty in ("", "# nothing\n", "{}"):
        assert "m.yaml:1: 'name' is missing" in said(tmp_path, empty)


def test_all_mistakes_are_said_at_once(tmp_path: Path) -> None:
    text = MATRIX.replace("models: [o]", "models: [p]").replace("models: [a]", "models: [q]")
    assert "model 'p'" in said(tmp_path, text) and "model 'q'" in said(tmp_path, text)
    wrong = "runtime_options={tensorrt: {optimization_level: 9}}"
    found = said(tmp_path, text, wrong)
    assert all(word in found for word in ("'p'", "'q'", "optimization_level"))


@pytest.mark.parametrize("written", ["onnxruntme", "3"])
def test_options_of_an_unknown_runtime_are_refused(tmp_path: Path, written: str) -> None:
    text = said(tmp_path, f"{MATRIX}runtime_options:\n  {written}: {{a: 1}}\n")
    assert "m.yaml:17: " in text or "m.yaml:16: " in text
    assert "unknown runtime" in text


def test_options_are_as_their_runtime_takes_them(tmp_path: Path) -> None:
    options = "runtime_options={tensorrt: {cuda_graph: 'true', optimization_level: '3'}, "
    found = read(tmp_path, MATRIX, options + "onnxruntime: {any: 'false'}}").spec.runtime_options
    assert found["tensorrt"] == {"cuda_graph": True, "optimization_level": 3}
    assert found["onnxruntime"] == {"any": "false"}
    text = said(
        tmp_path, MATRIX + "runtime_options:\n  tensorrt:\n    cuda_graph: no\n    levl: 3\n"
    )
    assert text.startswith("m.yaml:19: ") and "levl" in text


def test_a_matrix_has_so_many_cells_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two of the models, one more for the rule of `include`, for each opset.
    monkeypatch.setattr(loader, "_MOST_CELLS", 3)
    assert len(read(tmp_path).cells) == 1
    text = said(tmp_path, MATRIX, "opsets=[11, 12]")
    assert text == "m.yaml:1: its axes make 6 cells; 3 are the most: split the matrix"


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        (("exclude=[{models: [a, o]}]",), "override"),
        (("exclude=[]", "runtimes=[tensorrt]"), "over"),
    ],
)
def test_where_no_cell_is_left_the_runtimes_of_cpus_are_named(
    tmp_path: Path, overrides: tuple[str, ...], place: str
) -> None:
    text = said(tmp_path, MATRIX.replace("include: [{models: [a]}]\n", ""), *overrides)
    assert text.startswith(place) and overrides[-1] in text
    assert "(torch, onnxruntime, openvino run on CPUs)" in text


def test_a_file_is_of_a_megabyte_at_most(tmp_path: Path) -> None:
    fits = MATRIX + "#" * ((1 << 20) - len(MATRIX) - 1) + "\n"
    assert len(fits) == 1 << 20 and read(tmp_path, fits).name == "own"
    assert said(tmp_path, fits + "\n").endswith("it has more than 1 MiB, which no matrix needs")


def test_text_that_is_not_utf_8_is_said_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    for data, line, reason in (
        (b"a: 1\nb: 2\nc: \xff\n", 3, "it is not UTF-8 text"), (b"\xff", 1, "it is not UTF-8 text"),
        (b"\na: \xff\n", 2, "it is not UTF-8 text"),
        ("a: 1".encode("utf-16"), 1, "it is UTF-16 or UTF-32"),
        (b"\xfe\xff\x00a", 1, "it is UTF-16 or UTF-32"),
    ):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(InputError) as error:
            load(path)
        assert error.value.message.startswith(f"cannot read the matrix: {reason}")
        assert error.value.where == f"{path}:{line}"
    path.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert load(path).values == {"name": "x"}


def test_what_cannot_be_read_is_said_with_its_reason(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path, "it is not a file"), (tmp_path / "gone", "No such file or directory"),
        (Path("a\0b"), "embedded null"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"cannot read the matrix: .*{reason}") as error:
            load(path)
        assert error.value.where == str(path)


def test_a_key_of_the_comparison_that_is_not_known_has_the_nearest_one(tmp_path: Path) -> None:
    text = said(tmp_path, f"{MATRIX}compare: {{margn: 0.1}}\n")
    assert "m.yaml:16: unknown key 'compare.margn'; did you mean 'margin'?" in text
