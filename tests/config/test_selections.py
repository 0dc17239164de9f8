"""`include` and `exclude` as people write them, who know GitHub Actions' matrices."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import PROJECT

from farm.config.loader import load_matrix
from farm.errors import InputError

MATRIX = """\
name: gh
models: {a: {config: a.py, checkpoint: a.pth}, b: {config: b.py, checkpoint: b.pth}}
opsets: [11, 17]
shapes: {fixed: {opt: 64x64}}
runtimes: [onnxruntime, openvino]
dataset: {type: synthetic}
"""


def cells(folder: Path, rules: str, text: str = MATRIX) -> list[str]:
    (folder / "m.yaml").write_text(text + rules)
    return [one.id for one in load_matrix(folder / "m.yaml").cells]


@pytest.mark.parametrize(
    "written",
    [
        "{runtime: openvino, opset: 11}",
        "{runtimes: openvino, opsets: 11}",
        "{runtime: [openvino], opset: [11]}",
        "{runtimes: [openvino], opsets: [11]}",
        "{runtime: openvino, opsets: [11], model: [a, b]}",
    ],
)
def test_a_rule_has_singular_or_plural_keys_and_a_word_or_a_list(
    tmp_path: Path, written: str
) -> None:
    found = cells(tmp_path, f"exclude:\n  - {written}\n")
    assert len(found) == 6 and not [one for one in found if "op11" in one and "openvino" in one]


def test_every_axis_has_both_names(tmp_path: Path) -> None:
    rule = (
        "{model: a, opset: 11, shape: fixed, postprocess: graph, precision: fp32, target: cpu,"
        " runtime: openvino}"
    )
    assert len(cells(tmp_path, f"exclude: [{rule}]\n")) == 7
    gpu = MATRIX.replace("openvino]", "tensorrt]") + "targets: {g: {accelerator: L4}}\n"
    gpu += "workspaces: [1GiB, 2GiB]\n"
    assert len(cells(tmp_path, "exclude: [{workspace: 2GiB}]\n", gpu)) == 4


def test_include_adds_combinations_that_the_axes_do_not_have(tmp_path: Path) -> None:
    rules = (
        "include:\n  - {model: a, opset: 20, runtime: onnxruntime}\n"
        "  - {precision: fp16, opset: 13}\n"
    )
    found = cells(tmp_path, rules)
    added = found[8:]
    assert added == [
        "a.op20.fixed.fp32.onnxruntime.cpu",
        *(
            f"{model}.op13.fixed.fp16.{runtime}.cpu"
            for model in "ab"
            for runtime in ("onnxruntime", "openvino")
        ),
    ]


def test_what_exclude_takes_away_an_include_gives_back(tmp_path: Path) -> None:
    rules = "exclude: [{opset: 11}]\ninclude: [{opset: 11, model: b, runtime: openvino}]\n"
    assert "b.op11.fixed.fp32.openvino.cpu" in cells(tmp_path, rules)
    assert len(cells(tmp_path, rules)) == 5


def test_the_runtime_that_yaml_reads_as_nothing_is_one(tmp_path: Path) -> None:
    rules = "include: [{runtime: null, model: a, opset: 17}]\n"
    assert cells(tmp_path, rules)[-1] == "a.op17.fixed.fp32.null.cpu"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("exclude:\n  - {opset: 10}\n", "m.yaml:8: 'exclude.0.opsets.0': unknown opset 10"),
        (
            "exclude:\n  - {runtime: openvin}\n",
            "m.yaml:8: 'exclude.0.runtimes.0': unknown runtime 'openvin'; did you mean 'openvino'",
        ),
        ("exclude:\n  - {model: c}\n", "m.yaml:8: model 'c' is not defined"),
        (
            "exclude:\n  - {opset: 11,\n     opsets: [17]}\n",
            "m.yaml:8: give either 'opset' or 'opsets', not both",
        ),
        ("exclude:\n  - {os: linux}\n", "m.yaml:8: unknown key 'exclude.0.os'"),
        ("exclude: [openvino]\n", "m.yaml:7: 'exclude.0' is a mapping of keys to values"),
    ],
)
def test_a_mistake_in_a_rule_is_at_its_line(tmp_path: Path, rules: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        cells(tmp_path, rules)
    assert message in str(error.value).replace(f"{tmp_path}/", "")


def test_a_rule_that_changes_nothing_is_reported_at_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = "exclude:\n  - {opset: 12}\ninclude:\n  - {runtime: tensorrt}\n"
    assert len(cells(tmp_path, rules)) == 8
    said = capsys.readouterr().err
    assert "m.yaml:8: this exclude takes no cell away" in said
    assert "m.yaml:10: this include adds no cell" in said
    cells(tmp_path, "exclude: [{opset: 11}]\ninclude: [{opset: 17}]\n")
    assert capsys.readouterr().err == ""


def test_the_matrices_of_the_project_have_no_rule_that_changes_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COCO", "COCO_MINI", "CHECKPOINTS"):
        monkeypatch.setenv(name, "/nowhere")
    for path in (PROJECT / "matrices").glob("*.yaml"):
        load_matrix(path)
    assert "changes nothing" not in capsys.readouterr().err


def test_a_rule_that_is_no_mapping_is_named_as_it_was_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'exclude\.0' is a mapping of keys to values, not 'no'"):
        cells(tmp_path, "exclude: ['no']\n")
