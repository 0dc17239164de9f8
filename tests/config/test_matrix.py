"""A matrix: what it may say, what each mistake is told, and which cells it makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.config.loader import load_matrix
from farm.errors import InputError

GOOD = """\
name: good
models:
  a: {config: a.py, checkpoint: a.pth}
  b: {config: b.py, checkpoint: b.pth, opsets: [13], shapes: [dynamic]}
opsets: [11, 17]
shapes:
  fixed: {opt: 800x1216}
  dynamic: {min: 1x3x320x320, opt: 1x3x800x1216, max: 4x3x1344x1344}
runtimes: [torch, onnxruntime]
dataset: {type: coco, images: i, annotations: j.json}
"""


def cells(text: str, tmp_path: Path, *overrides: str) -> list[str]:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    return [cell.id for cell in load_matrix(path, overrides).cells]


def test_axes_multiply_and_a_runtime_without_an_axis_does_not(tmp_path: Path) -> None:
    assert cells(GOOD, tmp_path) == [
        "a.fixed.fp32.torch.cpu",
        "a.dynamic.fp32.torch.cpu",
        "a.op11.fixed.fp32.onnxruntime.cpu",
        "a.op17.fixed.fp32.onnxruntime.cpu",
        "a.op11.dynamic.fp32.onnxruntime.cpu",
        "a.op17.dynamic.fp32.onnxruntime.cpu",
        "b.dynamic.fp32.torch.cpu",
        "b.op13.dynamic.fp32.onnxruntime.cpu",
    ]


def test_a_folder_that_a_matrix_names_must_be_there_and_one_that_it_does_not_name_need_not(
    tmp_path: Path,
) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(InputError, match=f"^override 'folder=/.*: there is no folder {gone}$"):
        cells(GOOD, tmp_path, f"folder={gone}")
    gone.mkdir()
    assert len(cells(GOOD, tmp_path, f"folder={gone}")) == 8


def test_exclude_takes_cells_away_and_include_adds_them_once(tmp_path: Path) -> None:
    text = GOOD + (
        "exclude:\n  - {runtimes: [torch]}\n  - {models: [a], opsets: [11]}\n"
        "include:\n  - {models: [a], opsets: [20], shapes: [fixed], runtimes: [onnxruntime]}\n"
        "  - {models: [b], runtimes: [onnxruntime]}\n"
    )
    assert cells(text, tmp_path) == [
        "a.op17.fixed.fp32.onnxruntime.cpu",
        "a.op17.dynamic.fp32.onnxruntime.cpu",
        "b.op13.dynamic.fp32.onnxruntime.cpu",
        "a.op20.fixed.fp32.onnxruntime.cpu",
    ]


def test_overrides_replace_values_and_are_yaml(tmp_path: Path) -> None:
    found = cells(GOOD, tmp_path, "opsets=[20]", "models.b.opsets=[20]", "runtimes=[openvino]")
    assert found == [
        "a.op20.fixed.fp32.openvino.cpu",
        "a.op20.dynamic.fp32.openvino.cpu",
        "b.op20.dynamic.fp32.openvino.cpu",
    ]


def test_variables_fill_in_with_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSET", "13")
    text = GOOD.replace("opsets: [11, 17]", "opsets: ['${OPSET}']").replace("a.pth", "${X:-x}.pth")
    (tmp_path / "m.yaml").write_text(text)
    matrix = load_matrix(tmp_path / "m.yaml")
    assert matrix.spec.opsets == [13]
    assert matrix.spec.models["a"].checkpoint == "x.pth"


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("opsets: [11", "opset: [11", 5, "unknown key 'opset'; did you mean 'opsets'?"),
        ("b: {config: b.py", "b: {confg: b.py", 4, "unknown key 'models.b.confg'; did you mean"),
        ("checkpoint: a.pth", "cfg_options: {}", 3, "'models.a.checkpoint' is missing"),
        ("opsets: [11, 17]", "opsets: []", 5, "'opsets' is empty"),
        ("opsets: [11, 17]", "opsets: [11, 99]", 5, "unknown opset 99"),
        ("opsets: [11, 17]", "opsets: [true]", 5, "'opsets.0': a number is expected, not true"),
        ("opsets: [11, 17]", "opsets: [11, 11]", 5, "'11' stands twice"),
        ("opsets: [11, 17]", "opsets: eleven", 5, "should be a valid list, not 'eleven'"),
        ("onnxruntime]", "onnxrutime]", 9, "unknown runtime 'onnxrutime'; did you mean 'onnxrunt"),
        ("800x1216}", "800*1216}", 7, "write HxW (800x1216) or NxCxHxW"),
        ("min: 1x3x320x320", "min: 1x3x900x320", 8, "min 1x3x900x320 <= opt"),
        ("min: 1x3x320x320, ", "", 8, "a dynamic shape has both min and max"),
        ("shapes: [dynamic]", "shapes: [dynamc]", 4, "'dynamc' is not defined; did you mean"),
        ("  fixed: {opt: 800x1216}", "  fixed: {}", 7, "'shapes.fixed.opt' is missing"),
        ("shapes:\n", "shape:\n", 6, "unknown key 'shape'; did you mean 'shapes'?"),
        ("i, annot", "i, limits: 3, annot", 10, "'dataset.limits'; did you mean 'limit'?"),
        (
            "{type: coco, images: i",
            "{type: synthetic, cuont: 1",
            10,
            "'dataset.cuont'; did you mean",
        ),
        ("type: coco", "type: coc", 10, "unknown data set type 'coc'; did you mean 'coco'?"),
        ("{type: coco, ", "{", 10, "'dataset' needs a 'type'"),
        ("{config: a.py", "{config: '${ALSO_NOT_SET}'", 3, "ALSO_NOT_SET is not set"),
        ("a.pth", "${NOT_SET_ANYWHERE}/a.pth", 3, "NOT_SET_ANYWHERE is not set"),
        ("  b:", "  a:", 4, "duplicate name 'a'"),
        ("name: good", "name: [", 1, "not valid YAML"),
        ("name: good", "name: ../up", 1, "is not a name"),
        ("name: good", "name: good\nworkspaces: [12]", 2, "is not a size with a unit"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, said: str
) -> None:
    assert old in GOOD
    with pytest.raises(InputError) as error:
        cells(GOOD.replace(old, new, 1), tmp_path)
    assert said in str(error.value)
    assert f"m.yaml:{line}: " in str(error.value) or "YAML" in said


def test_the_runtime_null_is_a_name(tmp_path: Path) -> None:
    assert cells(GOOD, tmp_path, "runtimes=[null]")[0] == "a.op11.fixed.fp32.null.cpu"
    assert cells(GOOD.replace("onnxruntime]", "null]"), tmp_path)[2].endswith("null.cpu")


def test_merge_keys_are_yaml_and_not_duplicates(tmp_path: Path) -> None:
    merged = GOOD.replace("a: {", "a: &a {").replace("b: {config: b.py, ", "b: {<<: *a, ")
    (tmp_path / "m.yaml").write_text(merged)
    models = load_matrix(tmp_path / "m.yaml").spec.models
    assert (models["b"].config, models["b"].checkpoint) == ("a.py", "b.pth")


def test_an_override_below_cfg_options_is_one_path_of_the_config(tmp_path: Path) -> None:
    text = GOOD.replace("a.pth", "a.pth, cfg_options: {model.test_cfg.nms_pre: 1000}")
    (tmp_path / "m.yaml").write_text(text)
    override = "models.a.cfg_options.model.test_cfg.nms_pre=500"
    options = load_matrix(tmp_path / "m.yaml", [override]).spec.models["a"].cfg_options
    assert options == {"model.test_cfg.nms_pre": 500}


def test_a_target_that_no_runtime_runs_on_has_no_cells(tmp_path: Path) -> None:
    targets = "targets={h200: {accelerator: H200}, cpu: {}}"
    assert all(cell.endswith(".cpu") for cell in cells(GOOD, tmp_path, targets))
    with pytest.raises(InputError, match="no runtime here runs on the targets"):
        cells(GOOD, tmp_path, "targets={h200: {accelerator: H200}}")


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("[11, 17]", "[]").replace("onnxruntime]", "onnx]") + "colour: red\n"
    with pytest.raises(InputError) as error:
        cells(text, tmp_path)
    assert len(str(error.value).splitlines()) == 3


def test_a_wrong_override_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"override 'opsets=\[12.5\]'"):
        cells(GOOD, tmp_path, "opsets=[12.5]")
    with pytest.raises(InputError, match="an override is key=value"):
        cells(GOOD, tmp_path, "opsets")


def test_excluding_everything_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no cell is left"):
        cells(GOOD + "exclude: [{models: [a, b]}]\n", tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "just words", "a: &x [*x]", "\x00", "- 1\n"])
def test_what_is_no_matrix_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        cells(text, tmp_path)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: cannot read the matrix: No such file"):
        load_matrix(tmp_path / "nowhere.yaml")
    (tmp_path / "m.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="save it as UTF-8"):
        load_matrix(tmp_path / "m.yaml")


def test_where_the_graph_ends_is_an_axis_and_named_unless_it_is_the_graph(tmp_path: Path) -> None:
    text = GOOD.replace("opsets: [13],", "opsets: [13], postprocess: [none],")
    text += "exclude:\n  - {postprocess: [host], runtimes: [torch]}\n  - {shapes: [dynamic]}\n"
    text += "include:\n  - {models: [b], postprocess: [graph], runtimes: [onnxruntime]}\n"
    assert cells(text, tmp_path, "postprocess=[graph, host]", "opsets=[17]") == [
        "a.fixed.fp32.torch.cpu",
        "a.op17.fixed.fp32.onnxruntime.cpu",
        "a.op17.fixed.host.fp32.onnxruntime.cpu",
        "b.op13.dynamic.fp32.onnxruntime.cpu",
    ]
    with pytest.raises(InputError, match="unknown postprocess 'hosts'; did you mean 'host'"):
        cells(GOOD, tmp_path, "postprocess=[hosts]")


def test_the_null_runtime_has_no_such_axis(tmp_path: Path) -> None:
    found = cells(GOOD, tmp_path, "runtimes=[null]", "postprocess=[graph, host, none]")
    assert len(found) == 5 and not any("host" in cell for cell in found)


OTHERS = GOOD.replace(
    "  b:", "  o: {source: onnx, file: o.onnx, classes: [x]}\n"
    "  m: {source: module, function: 'm.n:f', outputs: raw, preprocess: {std: [1, 1, 1]}}\n  b:"
)  # fmt: skip


def test_models_of_other_sources_are_read(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(OTHERS)
    models = load_matrix(tmp_path / "m.yaml").spec.models
    assert [models[name].source for name in "aomb"] == ["mmdet", "onnx", "module", "mmdet"]
    assert len(cells(OTHERS, tmp_path, "runtimes=[onnxruntime]", "exclude=[{models: [a, b]}]")) == 6


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("source: onnx", "source: onxn", 4, "unknown model source 'onxn'; did you mean 'onnx'?"),
        ("file: o", "fil: o", 4, "unknown key 'models.o.fil'; did you mean 'file'?"),
        ("file: o.onnx, ", "", 4, "'models.o.file' is missing"),
        (", classes: [x]", "", 4, "'models.o': give its `classes` in the order of its labels"),
        ("classes: [x]", "classes: [x], opsets: [11]", 4, "has its own opset"),
        ("classes: [x]", "classes: [x], postprocess: [host]", 4, "its graph is not cut"),
        ("classes: [x]", "classes: [x, x]", 4, "'x' stands twice"),
        ("classes: [x]", "classes: [x], outputs: rows", 4, "'models.o.outputs': input should be"),
        ("classes: [x]", "outputs: raw, clip_boxes: true", 4, "raw outputs are no boxes: leave"),
        ("m.n:f", "m.n", 5, "'models.m.function': string should match pattern"),
        ("std: [1, 1, 1]", "std: [1, 0, 1]", 5, "a deviation is over 0"),
        ("std: [1, 1, 1]", "stdd: [1, 1, 1]", 5, "'models.m.preprocess.stdd'; did you mean 'std'?"),
        ("std: [1, 1, 1]", "mean: [1, 1]", 5, "'models.m.preprocess.mean"),
        ("outputs: raw", "config: x.py", 5, "unknown key 'models.m.config'"),
    ],
)
def test_a_mistake_in_a_model_of_another_source_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, said: str
) -> None:
    assert old in OTHERS
    with pytest.raises(InputError) as error:
        cells(OTHERS.replace(old, new, 1), tmp_path)
    assert said in str(error.value)
    assert f"m.yaml:{line}: " in str(error.value)
