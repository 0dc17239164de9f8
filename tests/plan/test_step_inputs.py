"""What each stage of a plan receives: every value of the matrix and of the facts arrives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farm import specs
from farm.config.loader import load_matrix
from farm.plan import Plan, Step, make_plan
from farm.plan.machines.placement import cores, cpu_model
from farm.specs import Dims, ModelFacts, Sizes, Suppression

MATRIX = """\
name: own
models: {abc: {config: c.py, checkpoint: c.pth, cfg_options: {b: 2, a: [1]}}}
opsets: [17]
shapes: {fixed: {opt: 64x96}}
runtimes: [onnxruntime]
dataset: {type: synthetic, count: 100, seed: 5, size: 64}
"""
NMS = Suppression(0.5, False, 100)
FACTS = ModelFacts(
    ("cat", "dog"), True, "[]", clips_boxes=False, mask_threshold=0.25, mask_frame="image",
    suppression=NMS, sizes=Sizes(32), opset=None,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "c.py").write_text("model = 1\n")
    (tmp_path / "build.py").write_text("def model(): ...\n")
    for name in ("c.pth", "w.pth", "r.onnx", "a.json"):
        (tmp_path / name).write_text(name)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"x")
    return tmp_path


def plan(folder: Path, *overrides: str, facts: ModelFacts = FACTS) -> Plan:
    (folder / "m.yaml").write_text(MATRIX)
    return make_plan(load_matrix(folder / "m.yaml", overrides), lambda _: facts)


def inputs(found: Plan, stage: str) -> Any:
    """Of the one step of this stage."""
    (step,) = found.of_stage(stage)
    return step.inputs


def test_a_model_of_mmdet_is_its_files_and_options(folder: Path) -> None:
    found = plan(folder, "models.abc.labels=[dog, cat]", "models.abc.allow_pickle=true")
    check = inputs(found, "check")
    model = check.model
    assert (model.name, model.source, model.allow_pickle) == ("abc", "mmdet", True)
    assert model.config.path == str(folder / "c.py")
    assert model.checkpoint.path == str(folder / "c.pth")
    assert model.cfg_options == (("a", [1]), ("b", 2))
    assert check.labels == ("dog", "cat") and check.calibration is None and check.used == ()
    assert check.dataset == specs.ShapesDataset(100, 5, 64)
    assert found.name == "own" and found.missing == () == found.unchecked and not found.unfollowed


def test_a_ready_file_is_taken_as_it_is_described(folder: Path) -> None:
    found = plan(
        folder,
        "models={abc: {source: onnx, file: r.onnx, classes: [x, y], clip_boxes: false, "
        "preprocess: {mean: [1, 2, 3], std: [4, 5, 6], to_rgb: false, keep_ratio: false, "
        "pad: 32, pad_value: 7}}}",
    )
    assert inputs(found, "check").model == specs.OnnxModel(
        "abc", inputs(found, "check").model.file, "detections", ("x", "y"),
        specs.Preprocess((1, 2, 3), (4, 5, 6), False, False, 32, 7), False,
    )  # fmt: skip
    assert inputs(found, "check").model.file.path == str(folder / "r.onnx")
    assert inputs(found, "export").opset is None
    assert found.of_stage("export")[0].label == "abc fixed"


@pytest.mark.parametrize("checkpoint", ["w.pth", None])
def test_a_module_is_its_function_its_code_and_its_weights(
    checkpoint: str | None, folder: Path
) -> None:
    more = f", checkpoint: {checkpoint}" if checkpoint else ""
    found = plan(
        folder,
        f"models={{abc: {{source: module, function: 'build:model', outputs: raw{more}, "
        "options: {z: 1, a: 2}, allow_pickle: true}}",
    )
    model = inputs(found, "check").model
    assert (model.function, model.root, model.outputs) == ("build:model", str(folder), "raw")
    assert model.code.path == str(folder / "build.py") and len(model.code.digest) == 64
    assert model.options == (("a", 2), ("z", 1)) and model.allow_pickle and model.classes == ()
    assert (model.checkpoint and model.checkpoint.path) == (
        str(folder / "w.pth") if checkpoint else None
    )
    assert all(
        step.needs.own_process for step in found.of_stage("reference") + found.of_stage("export")
    )


def test_the_data_set_is_its_images_its_annotations_and_its_limit(folder: Path) -> None:
    found = plan(
        folder, "dataset={type: coco, images: images, annotations: a.json, limit: 7}"
    )  # fmt: skip
    data = inputs(found, "prepare").dataset
    assert (data.images.path, data.annotations.path, data.limit) == (
        str(folder / "images"), str(folder / "a.json"), 7,
    )  # fmt: skip


def test_what_is_missing_is_noted_with_its_line_and_its_steps_are_planned(folder: Path) -> None:
    found = plan(
        folder, "models.abc.config=gone.py", "models.abc.checkpoint=gone.pth",
        "dataset={type: coco, images: none, annotations: none.json}",
    )  # fmt: skip
    text = [str(error) for error in found.missing]
    assert len(text) == 4
    for words in (("gone.py", "override"), ("gone.pth", "checkpoint"), ("none", "image folder"),
                  ("none.json", "annotation file")):  # fmt: skip
        assert any(all(word in one for word in words) for one in text), words
    assert inputs(found, "check").model.config == specs.File("gone.py", "missing gone.py")
    assert inputs(found, "check").model.checkpoint == specs.File("gone.pth", "missing gone.pth")
    (folder / "c.py").write_text("_base_ = './no.py'\n")
    (error,) = plan(folder).missing
    assert "has a _base_ that is not there" in str(error) and "m.yaml:2" in error.where
    (folder / "c.py").write_text("x = (\n")
    (error,) = plan(folder).missing
    assert error.message.startswith(f"{folder / 'c.py'}:1: not valid Python")


SHAPES = "shapes={size: {min: 2x3x32x64, opt: 4x3x64x96, max: 8x3x128x96}}"


def test_images_are_prepared_for_the_shape_and_checked_where_their_sizes_are_free(
    folder: Path,
) -> None:
    assert inputs(plan(folder), "prepare") == specs.PrepareInputs(
        "[]", specs.Shape("fixed", *[Dims(1, 3, 64, 96)] * 3), specs.ShapesDataset(100, 5, 64)
    )
    free = plan(folder, SHAPES)
    assert inputs(free, "prepare").sizes == Sizes(32)
    assert inputs(free, "prepare").shape.max == Dims(1, 3, 128, 96)
    assert free.of_stage("prepare")[0].label == "size for abc"


def test_the_reference_compares_so_many_images(folder: Path) -> None:
    found = plan(folder, "verify.images=9")
    (prepare,) = found.of_stage("prepare")
    assert inputs(found, "reference") == specs.ReferenceInputs(
        inputs(found, "check").model, prepare.ref, 9, classes=("cat", "dog")
    )
    assert found.of_stage("reference")[0].parents == (prepare.key,)
    assert found.of_stage("reference")[0].label == "abc fixed"


@pytest.mark.parametrize(("wanted", "images"), [(16, 2), (1, 1)])
def test_of_raw_outputs_few_images_are_compared(wanted: int, images: int, folder: Path) -> None:
    found = plan(folder, "postprocess=[none]", f"verify.images={wanted}")
    reference = inputs(found, "reference")
    assert (reference.images, reference.raw_batch, reference.classes) == (images, 1, ())
    assert not found.of_stage("evaluate") and found.of_stage("verify")
    batches = plan(folder, "postprocess=[none]", SHAPES.replace("2x3", "3x3"))
    assert (inputs(batches, "reference").images, inputs(batches, "reference").raw_batch) == (3, 3)


@pytest.mark.parametrize(
    ("overrides", "facts", "expected"),
    [
        ((), FACTS, ("graph", False, "abc op17 fixed")),
        (("postprocess=[host]",), FACTS, ("host", False, "abc op17 fixed host")),
        # Without a suppression, the whole graph runs where it is cut.
        (("postprocess=[host]",), replace(FACTS, suppression=None),
         ("graph", False, "abc op17 fixed")),
        (("postprocess=[none]",), replace(FACTS, suppression=None),
         ("none", False, "abc op17 fixed none")),
        (("simplify=true",), FACTS, ("graph", True, "abc op17 fixed")),
        (("simplify=true", "models.abc.simplify=false"), FACTS, ("graph", False, "abc op17 fixed")),
        (("models.abc.simplify=true",), FACTS, ("graph", True, "abc op17 fixed")),
    ],
)  # fmt: skip
def test_an_export_ends_where_it_should_and_is_simplified_where_asked(
    overrides: tuple[str, ...], facts: ModelFacts, expected: tuple[Any, ...], folder: Path
) -> None:
    found = plan(folder, *overrides, facts=facts)
    values, (step,) = inputs(found, "export"), found.of_stage("export")
    assert (values.postprocess, values.simplify, step.label) == expected
    assert values.opset == 17
    assert ("onnxslim" in dict(step.toolchain)) == expected[1]
    engine = inputs(found, "verify").engine
    assert engine.postprocess == expected[0]
    assert engine.suppression == (NMS if expected[0] == "host" else None)


def test_a_file_is_converted_with_the_layers_that_are_kept(folder: Path) -> None:
    found = plan(folder, "precisions=[fp16]", "keep_fp32=[b, a]")
    (export,) = found.of_stage("export")
    assert inputs(found, "convert") == specs.ConvertInputs(export.ref, "fp16", ("a", "b"))
    (convert,) = found.of_stage("convert")
    assert (convert.label, convert.parents) == ("abc op17 fixed fp16", (export.key,))
    assert inputs(found, "build").exported == convert.ref
    assert set(dict(convert.toolchain)) == {"onnx"}
    own = plan(folder, "precisions=[fp16]", "keep_fp32=[b, a]", "models.abc.keep_fp32=[c]")
    assert inputs(own, "convert").keep == ("c",)
    none = plan(folder, "precisions=[fp16]", "keep_fp32=[b]", "models.abc.keep_fp32=[]")
    assert inputs(none, "convert").keep == ()
    assert not plan(folder).of_stage("convert")


def calibrated(found: Plan) -> tuple[Any, Step]:
    """What int8 is calibrated with: the inputs of its images, and the step of the file."""
    (convert,) = found.of_stage("convert")
    key = inputs(found, "convert").int8.calibration.key
    assert key in convert.parents
    return found.steps[key].inputs, convert


INT8 = "precisions=[int8]"


def test_int8_is_calibrated_with_images_of_the_next_seed_or_the_first_of_the_data_set(
    folder: Path,
) -> None:
    values, convert = calibrated(plan(folder, INT8))
    assert values.dataset == specs.ShapesDataset(64, 6, 64)
    assert set(dict(convert.toolchain)) == {"onnx", "onnxruntime"}
    assert calibrated(plan(folder, INT8, "dataset.count=9"))[0].dataset.count == 9
    coco = "dataset={type: coco, images: images, annotations: a.json}"
    assert calibrated(plan(folder, INT8, coco))[0].dataset.limit == 64
    assert calibrated(plan(folder, INT8, coco, "dataset.limit=5"))[0].dataset.limit == 5
    assert calibrated(plan(folder, INT8, coco, "dataset.limit=500"))[0].dataset.limit == 64


def test_int8_is_calibrated_with_the_images_that_the_matrix_names(folder: Path) -> None:
    given = "calibration={images: images, limit: 3}"
    values, _ = calibrated(plan(folder, INT8, given))
    assert isinstance(values.dataset, specs.FolderDataset) and values.dataset.limit == 3
    found = plan(folder, INT8, given, "calibration.annotations=a.json")
    data = calibrated(found)[0].dataset
    assert isinstance(data, specs.CocoDataset) and data.limit == 3
    assert data.annotations.path == str(folder / "a.json")
    assert inputs(found, "check").calibration is None


def test_int8_has_its_method_its_batch_and_how_much_ap_it_may_lose(folder: Path) -> None:
    plain = inputs(plan(folder, INT8, "int8={method: entropy, percentile: 99}"), "convert").int8
    assert (plain.method, plain.percentile, plain.batch, plain.auto) == ("entropy", 99.0, 1, None)
    assert inputs(plan(folder, INT8, SHAPES), "convert").int8.batch == 2
    found = plan(folder, INT8, "int8={auto: {max_ap_drop: 2, min_score: 0.5, images: 3}}")
    auto = inputs(found, "convert").int8.auto
    assert auto == specs.Auto(2.0, 0.5, 3, True, ("cat", "dog"), False, None)
    assert "pycocotools" in dict(found.of_stage("convert")[0].toolchain)
    host = plan(folder, INT8, "int8=auto", "postprocess=[host]")
    assert inputs(host, "convert").int8.auto.suppression == NMS
    folder_alone = plan(folder, INT8, "int8=auto", "calibration={images: images}")
    assert inputs(folder_alone, "convert").int8.auto.annotated is False
    assert inputs(folder_alone, "check").calibration is None
    annotated = plan(
        folder, INT8, "int8=auto", "calibration={images: images, annotations: a.json}"
    )  # fmt: skip
    assert inputs(annotated, "convert").int8.auto.annotated is True
    assert inputs(annotated, "check").calibration == calibrated(annotated)[0].dataset
    fp32 = plan(folder, "int8=auto", "calibration={images: images, annotations: a.json}")
    assert inputs(fp32, "check").calibration is None


def test_engines_are_built_and_opened_with_their_options(folder: Path) -> None:
    found = plan(
        folder, "targets={box: {device: some cpu}}",
        "runtime_options={onnxruntime: {session.b: '1', session.a: '0'}}",
    )  # fmt: skip
    build = inputs(found, "build")
    target = specs.Target("box", "some cpu")
    shape = specs.Shape("fixed", *[Dims(1, 3, 64, 96)] * 3)
    options = specs.EngineOptions(
        "onnxruntime", "fp32", shape, None, (("session.a", "0"), ("session.b", "1"))
    )
    (export,), (built,), (prepare,) = map(found.of_stage, ("export", "build", "prepare"))
    assert build == specs.BuildInputs(export.ref, options, target)
    assert (built.label, built.parents) == (found.cells[0].cell.id, (export.key,))
    (reference,) = found.of_stage("reference")
    engine = specs.Engine(options, built.ref, None)
    assert inputs(found, "verify") == specs.VerifyInputs(
        engine, prepare.ref, reference.ref, 2, 0.25, "image", target
    )
    assert inputs(found, "evaluate") == specs.EvaluateInputs(
        engine, prepare.ref, reference.ref, ("cat", "dog"), False, 0.25, "image", target
    )
    parents = {stage: found.of_stage(stage)[0].parents for stage in ("verify", "evaluate")}
    compared = built.key, prepare.key, reference.key
    assert parents == {"verify": compared, "evaluate": compared}


def test_a_race_is_held_to_what_may_be_lost(folder: Path) -> None:
    def bound(*said: str) -> float | None:
        found: float | None = inputs(plan(folder, *said), "evaluate").max_ap_drop
        return found

    assert bound() is None and bound("racing=false") is None
    assert bound("racing=true") == 1 and bound("racing={max_ap_drop: 0.3}") == 0.3
    (plain,), (raced,) = (
        plan(folder, *said).of_stage("evaluate") for said in ((), ("racing=true",))
    )
    assert plain.key == plan(folder, "racing=false").of_stage("evaluate")[0].key != raced.key


def test_speed_is_measured_as_the_matrix_says(folder: Path) -> None:
    said = "measure={seconds: 1, max_seconds: 2, warmup_seconds: 0.5, min_samples: 20, threads: 3}"
    values = inputs(plan(folder, said), "measure")
    assert (values.seconds, values.max_seconds, values.warmup_seconds) == (1.0, 2.0, 0.5)
    assert (values.min_samples, values.threads) == (20, 3)
    assert inputs(plan(folder), "measure").threads == cores()
    assert inputs(plan(folder), "measure").target == specs.Target("cpu", cpu_model())


def test_pytorch_runs_the_model_itself(folder: Path) -> None:
    found = plan(folder, "runtimes=[torch]", "models.abc.allow_pickle=true")
    (cell,) = found.cells
    assert set(cell.steps) == {
        "check", "prepare", "reference", "verify", "evaluate", "measure",
    }  # fmt: skip
    engine = inputs(found, "verify").engine
    assert engine.built is None and engine.model == inputs(found, "check").model
    # What loads a model that may run any code has a process of its own.
    apart = {stage: found.of_stage(stage)[0].needs.own_process for stage in cell.steps}
    assert apart == {**dict.fromkeys(cell.steps, True), "prepare": False}
    plain = plan(folder, "runtimes=[torch]")
    assert not plain.of_stage("measure")[0].needs.own_process


def test_a_model_that_was_not_checked_is_listed_and_its_cells_are_refused_nothing(
    folder: Path,
) -> None:
    (folder / "m.yaml").write_text(MATRIX)
    found = make_plan(load_matrix(folder / "m.yaml"))
    assert found.unchecked == ("abc",) and set(found.cells[0].steps) > {"export", "measure"}
    assert (
        inputs(found, "prepare").pipeline
        == f"unknown until checked: {found.cells[0].steps['check']}"
    )
    assert inputs(found, "evaluate").classes == ()


def test_what_could_not_be_followed_is_listed_by_model(folder: Path) -> None:
    used = (specs.Used("unfollowed", "it began `x`", ""), specs.Used("config", "c", "d"))
    assert plan(folder, facts=replace(FACTS, used=used)).unfollowed == {"abc": ("it began `x`",)}


def test_a_refused_cell_has_its_check_and_the_reason_alone(folder: Path) -> None:
    (cell,) = plan(folder, facts=replace(FACTS, refused="it cannot be run")).cells
    assert list(cell.steps) == ["check"] and cell.refused == "it cannot be run"


def test_equal_steps_are_one(folder: Path) -> None:
    found = plan(folder, "runtimes=[onnxruntime, openvino, torch]", "opsets=[16, 17]")
    counts = {stage: len(found.of_stage(stage)) for stage in found.cells[0].steps}
    assert counts == {
        "check": 1, "prepare": 1, "reference": 1, "export": 2, "build": 4, "verify": 5,
        "evaluate": 5, "measure": 5,
    }  # fmt: skip
    assert np.unique([cell.cell.id for cell in found.cells]).size == 5
