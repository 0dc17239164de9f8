"""Models beyond mmdet's: a ready ONNX file, and a torch module that a function returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT, Farm

from farm import specs
from farm.detections import ImageMeta
from farm.errors import InputError, StepFailed
from farm.specs import Dims

pytestmark = pytest.mark.slow

MATRICES = PROJECT / "matrices"
IMAGES = specs.Preprocess((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), pad=32)


def source(name: str) -> Any:
    from farm.catalog import SOURCES

    return SOURCES[name].adapter()


def ready(path: Path, **values: Any) -> specs.OnnxModel:
    return specs.OnnxModel("x", specs.File(str(path), ""), **values)


def small(path: Path, **values: Any) -> Path:
    """An ONNX file: images -> dets [N, 1, 5], labels [N, 1]; `values` change it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    axes = values.get("axes", ["batch", 3, "h", "w"])
    n = axes[0] if isinstance(axes[0], int) else "batch"
    names = values.get("names", ["dets", "labels"])
    kinds = values.get("kinds", [TensorProto.FLOAT])
    taken = [
        helper.make_tensor_value_info(f"images{i or ''}", kind, axes)
        for i, kind in enumerate(kinds)
    ]
    given = [
        helper.make_tensor_value_info(names[0], TensorProto.FLOAT, [n, 1, 5]),
        helper.make_tensor_value_info(names[1], TensorProto.FLOAT, [n, 1]),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["mean", "three"], ["flat"]),
        helper.make_node("Add", ["flat", "five"], [names[0]]),
        helper.make_node(values.get("last", "Relu"), ["rows"], [names[1]]),
        helper.make_node("Reshape", ["mean", "two"], ["rows"]),
    ]
    constants = {
        "three": np.array([-1, 1, 1]),
        "two": np.array([-1, 1]),
        "five": np.array([[[0, 0, 9, 9, 0.5]]], np.float32),
    }
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph([*nodes[:3], nodes[4], nodes[3]], "g", taken, given, weights)
    domain = values.get("domain", "")
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13), *values.get("imports", [])]
    )
    model.graph.node[-1].domain = domain
    model.ir_version = 8
    onnx.save(model, path)
    return path


def test_a_ready_file_tells_its_own_opset_and_shape(tmp_path: Path) -> None:
    facts = source("onnx").check(ready(small(tmp_path / "x.onnx"), classes=("a",)))
    assert facts.opset == 13 and facts.input_shape == (None, 3, None, None)
    assert facts.classes == ("a",) and not facts.masks
    fixed = small(tmp_path / "y.onnx", axes=[1, 3, 64, 96])
    assert source("onnx").check(ready(fixed)).input_shape == (1, 3, 64, 96)


def test_what_is_no_detector_in_a_file_is_told(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    float_, uint8 = TensorProto.FLOAT, TensorProto.UINT8
    check = source("onnx").check
    (tmp_path / "torn.onnx").write_bytes(small(tmp_path / "x.onnx").read_bytes()[:99])
    with pytest.raises(InputError, match=r"torn\.onnx: not a valid ONNX file"):
        check(ready(tmp_path / "torn.onnx"))
    other = ready(small(tmp_path / "n.onnx", names=["boxes", "classes"]))
    with pytest.raises(InputError, match="outputs are boxes, classes; expected dets, labels"):
        check(other)
    check(ready(tmp_path / "n.onnx", outputs="raw"))
    with pytest.raises(InputError, match="inputs images, images1; expected one"):
        check(ready(small(tmp_path / "i.onnx", kinds=[float_, float_])))
    with pytest.raises(InputError, match=r"images is float 1x4x64x64; expected float Nx3xHxW"):
        check(ready(small(tmp_path / "c.onnx", axes=[1, 4, 64, 64])))
    with pytest.raises(InputError, match=r"images is float 3x64x64; expected"):
        check(ready(small(tmp_path / "r.onnx", axes=[3, 64, 64])))
    own = {"last": "Mine", "domain": "my", "imports": [helper.make_opsetid("my", 1)]}
    with pytest.raises(StepFailed, match="ONNX Runtime, which is its reference, refuses it"):
        check(ready(small(tmp_path / "m.onnx", **own)))
    assert uint8 != float_


def test_a_file_with_its_weights_elsewhere_is_refused(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(MATRICES / "sources/peaks.onnx")
    onnx.save(model, tmp_path / "x.onnx", save_as_external_data=True, location="x.bin")
    with pytest.raises(InputError, match="weights in other files; save it as one file"):
        source("onnx").check(ready(tmp_path / "x.onnx"))


def test_free_axes_are_bound_where_the_profile_is_fixed_and_else_stay(tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    path, exported = MATRICES / "sources/peaks.onnx", tmp_path / "x.onnx"
    detector = source("onnx").load(ready(path))
    opt = Dims(2, 3, 96, 128)
    source("onnx").export_onnx(detector, specs.Shape("f", opt, opt, opt), None, exported)
    session = onnxruntime.InferenceSession(exported)
    assert session.get_inputs()[0].shape == [2, 3, 96, 128]
    assert [one.shape for one in session.get_outputs()] == [[2, 50, 5], [2, 50]]
    images = np.random.default_rng(0).normal(size=opt.as_tuple()).astype(np.float32)
    (found, _), expected = session.run(None, {"images": images}), detector.raw(images)["dets"]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    free = specs.Shape("d", Dims(2, 3, 1, 1), opt, Dims(2, 3, 999, 999))
    source("onnx").export_onnx(detector, free, None, exported)
    dims = onnx.load(exported).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value or dim.dim_param for dim in dims] == [2, 3, "height", "width"]
    whole = specs.Shape("d", Dims(1, 3, 1, 1), opt, Dims(9, 3, 999, 999))
    source("onnx").export_onnx(detector, whole, None, exported)
    assert exported.read_bytes() == path.read_bytes()


def function(tmp_path: Path, name: str, code: str, **values: Any) -> specs.ModuleModel:
    """A model of `name:make`, whose code is `code`. Names differ, as Python keeps modules."""
    (tmp_path / f"{name}.py").write_text("import torch\nfrom torch import nn\n" + code)
    file = specs.File(str(tmp_path / f"{name}.py"), "")
    return specs.ModuleModel("m", f"{name}:make", str(tmp_path), file, **values)


def test_a_function_is_called_with_its_options_and_its_weights_are_loaded(tmp_path: Path) -> None:
    import torch

    code = "def make(n, bias=True): return nn.Conv2d(3, n, 1, bias=bias), (1, 3, None, 8)"
    torch.save({"state_dict": {"weight": torch.ones(2, 3, 1, 1)}}, tmp_path / "w.pth")
    model = function(
        tmp_path, "called", code, options=(("n", 2), ("bias", False)), outputs="raw",
        checkpoint=specs.File(str(tmp_path / "w.pth"), ""),
    )  # fmt: skip
    loaded = source("module").load(model)
    assert loaded.facts.input_shape == (1, 3, None, 8)
    found = loaded.raw(np.ones((1, 3, 4, 8), np.float32))
    assert list(found) == ["out_0"] and (found["out_0"] == 3).all()
    assert found["out_0"].shape == (1, 2, 4, 8)


def test_random_weights_are_the_same_in_every_process(tmp_path: Path) -> None:
    import torch

    model = function(tmp_path, "drawn", "def make(): return nn.Conv2d(3, 2, 1)", outputs="raw")
    images = np.ones((1, 3, 4, 4), np.float32)
    first = source("module").load(model).raw(images)["out_0"]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    np.testing.assert_array_equal(source("module").load(model).raw(images)["out_0"], first)
    assert torch.equal(torch.get_rng_state(), before)


def test_boxes_are_clipped_to_the_image_unless_the_matrix_says_otherwise(tmp_path: Path) -> None:
    """So that a YOLOX has the AP that it has by its config, as a file and as a module too."""
    code = (
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        n = x.shape[0]\n"
        "        return torch.tensor([[[0, 0, 9, 9, .5]]]).repeat(n, 1, 1), torch.zeros(n, 1)\n"
        "def make(): return Net()\n"
    )
    file = small(tmp_path / "x.onnx", axes=[1, 3, 8, 8])
    meta = ImageMeta(1, "x.png", 6, 6, 6, 6, 8, 8, 1.0, 1.0, 0, 0)
    for clip, far in ((False, 9), (True, 6)):
        values: dict[str, Any] = {"classes": ("a",), **({} if clip else {"clip_boxes": False})}
        for model in (ready(file, **values), function(tmp_path, "wide", code, **values)):
            loaded = source(model.source).load(model)
            assert source(model.source).check(model).clips_boxes is clip
            found = loaded.reference(np.zeros((3, 8, 8), np.float32), meta)
            assert found.boxes.tolist() == [[0, 0, far, far]]


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("torn", "def make(:", "torn cannot be imported: SyntaxError"),
        ("needs", "import no_such_package", "needs cannot be imported: ModuleNotFoundError"),
        ("other", "def build(): pass", "it has no function 'make'"),
        ("raises", "def make(): raise KeyError('x')", "raises:make cannot be called: KeyError"),
        ("wants", "def make(x): pass", "wants:make cannot be called: TypeError"),
        ("list", "def make(): return [1]", "list:make returns list, expected a torch.nn.Module"),
        ("flat", "def make(): return nn.ReLU(), (3, 64)", "input shape (3, 64); expected (N"),
    ],
)
def test_a_function_that_makes_no_module_is_told(
    tmp_path: Path, name: str, code: str, said: str
) -> None:
    with pytest.raises(InputError) as error:
        source("module").check(function(tmp_path, f"{name}", code))
    assert said in str(error.value)
    assert str(error.value).startswith(str(tmp_path / f"{name}.py"))


def test_a_module_of_a_name_that_is_taken_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another module is called numpy"):
        source("module").check(function(tmp_path, "numpy", "def make(): pass"))


def test_a_checkpoint_that_does_not_fit_the_module_is_told(tmp_path: Path) -> None:
    import torch

    torch.save({"state_dict": {"weight": torch.ones(5, 3, 1, 1)}}, tmp_path / "w.pth")
    file = specs.File(str(tmp_path / "w.pth"), "")
    model = function(
        tmp_path, "unfit", "def make(): return nn.Conv2d(3, 2, 1, bias=False)", checkpoint=file
    )
    with pytest.raises(InputError, match="does not fit the module"):
        source("module").check(model)


def test_outputs_that_are_no_detections_are_told(tmp_path: Path) -> None:
    image = np.zeros((3, 8, 8), np.float32)
    one = source("module").load(function(tmp_path, "one", "def make(): return nn.ReLU()"))
    with pytest.raises(StepFailed, match="returns 1 tensors; expected dets, labels"):
        one.reference_as_graph(image)
    opt = Dims(1, 3, 8, 8)
    with pytest.raises(StepFailed, match=r"^the module returns 1 tensors"):
        source("module").export_onnx(one, specs.Shape("f", opt, opt, opt), 17, tmp_path / "x.onnx")
    code = "class Two(nn.Module):\n def forward(self, x): return x, x\ndef make(): return Two()"
    two = source("module").load(function(tmp_path, "two", code))
    with pytest.raises(StepFailed, match=r"outputs are dets \[1, 3, 8, 8\], labels .* expected"):
        two.reference_as_graph(image)


_THREE = """
class Three(nn.Module):
    def forward(self, images):
        n, rows = len(images), images.mean((1, 2, 3)).reshape(-1, 1)
        dets = images.new_tensor([0, 0, 9, 9, 0.5]).repeat(n, 1, 1) + rows[..., None] * 0
        return dets, (rows * 0).long(), images.new_ones(n, 1, 14, 14)
"""


@pytest.mark.parametrize("shape", ["None", "(1, 3, 64, 64)", "(None, 3, 64, None)"])
def test_a_module_that_returns_masks_is_known_to_have_them(tmp_path: Path, shape: str) -> None:
    name = f"masks{len(shape)}"
    made = f"return Three(), {shape}" if shape != "None" else "return Three()"
    model = function(tmp_path, name, f"{_THREE}def make(): {made}", classes=("a",))
    assert source("module").check(model).masks
    boxes = function(
        tmp_path, f"{name}b",
        f"{_THREE}class Two(Three):\n  def forward(self, x): return super().forward(x)[:2]\n"
        f"def make(): {made.replace('Three', 'Two')}",
    )  # fmt: skip
    assert not source("module").check(boxes).masks
    raw = function(tmp_path, f"{name}r", f"{_THREE}def make(): {made}", outputs="raw")
    assert not source("module").check(raw).masks


@pytest.mark.parametrize(
    ("name", "returned", "said"),
    [
        ("single", "images", "returns 1 tensors; expected dets, labels"),
        (
            "swapped",
            "images.new_ones(1, 7), images.new_ones(1, 7, 5)",
            "its outputs are dets",
        ),
        ("torn_masks", "*two, images.new_ones(1, 7, 14)", "its outputs are dets"),
        (
            "rows_doubled",
            "images.new_ones(2, 7, 5), images.new_ones(2, 7)",
            "its outputs are dets",
        ),
    ],
)
def test_what_a_module_returns_is_held_against_the_form_in_check(
    tmp_path: Path, name: str, returned: str, said: str
) -> None:
    code = f"""
class M(nn.Module):
    def forward(self, images):
        two = images.new_ones(1, 7, 5), images.new_ones(1, 7)
        return {returned}
def make(): return M()
"""
    with pytest.raises(StepFailed, match=said):
        source("module").check(function(tmp_path, name, code))


def test_a_module_that_fails_at_its_only_size_fails_in_check(tmp_path: Path) -> None:
    code = "def make(): return nn.Conv2d(4, 2, 1), (1, 3, 64, 64)"
    with pytest.raises(StepFailed, match="the module cannot be run on images 1x3x64x64: Runtime"):
        source("module").check(function(tmp_path, "unfit_input", code))


def test_images_are_prepared_as_a_config_of_the_same_meaning_says() -> None:
    demo = MATRICES / "demo"
    files = [specs.File(str(demo / f"onestage{end}"), "") for end in (".py", ".pth")]
    of_mmdet = source("mmdet").check(specs.Model("m", "mmdet", *files)).pipeline
    from farm.preprocess.settings import pipeline_of

    assert pipeline_of(IMAGES) == of_mmdet
    assert "normalize" not in pipeline_of(specs.Preprocess(to_rgb=False))
    assert '"value":[114.0,114.0,114.0]' in pipeline_of(specs.Preprocess(pad_value=114.0))


def test_the_matrix_of_sources_runs(tmp_path: Path, farm: Farm) -> None:
    results = tmp_path / "r"
    words = ("run", "matrices/sources.yaml", "--results", results, "measure.seconds=0.1")
    words = (*words, "measure.warmup_seconds=0", "--executor", "inline", "--no-mlflow")
    done = farm(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_parquet(results / "leaderboard").set_index("cell")
    assert len(table) == 12 and (table.status == "ok").all()
    assert set(table.index[table.model == "ready"]) == {
        "ready.dynamic.fp32.onnxruntime.cpu",
        "ready.dynamic.fp32.openvino.cpu",
    }
    assert (table.opset == 17).all()  # the ready file's own, too
    of = table.groupby("model")
    assert of.bbox_mAP.max()["module"] > 0.6 and of.bbox_mAP.max()["module"] == pytest.approx(
        of.bbox_mAP.max()["ready"], abs=1e-3
    )
    assert of.matched_fraction.min()["module"] == of.matched_fraction.min()["ready"] == 1
    heads = table[table.model == "heads"]
    assert heads.bbox_mAP.isna().all() and (heads.cosine > 0.99999).all()
    # Four models of three sources have one set of prepared images.
    assert table.prepare_key.nunique() == 1
    again = farm(*words)
    assert again.returncode == 0 and "steps to do" not in again.stderr


def test_wrong_models_of_other_sources_end_the_sweep_with_their_line(
    tmp_path: Path, farm: Farm
) -> None:
    text = (MATRICES / "sources.yaml").read_text()
    (tmp_path / "m.yaml").write_text(text.replace("demo/", f"{MATRICES}/demo/"))
    (tmp_path / "sources").mkdir()
    for name in ("peaks.py", "peaks.pth"):
        (tmp_path / "sources" / name).write_bytes((MATRICES / "sources" / name).read_bytes())
    (tmp_path / "sources/peaks.onnx").write_bytes(b"no ONNX file")
    code = (tmp_path / "sources/peaks.py").read_text().replace("def heads(", "def headz(")
    (tmp_path / "sources/peaks.py").write_text(code)
    words = ("--executor", "inline", "--no-mlflow", "--results", tmp_path / "r")
    done = farm("run", tmp_path / "m.yaml", *words)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    lines = text.splitlines()
    file = next(i for i, line in enumerate(lines, 1) if "file: sources" in line)
    heads = next(i for i, line in enumerate(lines, 1) if "peaks:heads" in line)
    assert f"m.yaml:{file}: " in done.stderr and "not a valid ONNX file" in done.stderr
    assert f"m.yaml:{heads}: " in done.stderr and "has no function 'heads'" in done.stderr


def test_the_batch_that_is_measured_is_the_one_that_is_verified(tmp_path: Path, farm: Farm) -> None:
    """A module that is right for one image, and scores the second of a batch lower."""
    (tmp_path / "second.py").write_text(
        """
import torch
from torch import nn

class Second(nn.Module):
    def forward(self, x):
        flat = x.mean((1, 2, 3), keepdim=True).reshape(-1, 1, 1) * 0
        place = torch.cumsum(torch.ones_like(flat), 0) - 1
        box = torch.tensor([0.0, 0.0, 9.0, 9.0]).reshape(1, 1, 4) + flat
        return torch.cat([box, 0.9 - 0.4 * place], -1), (flat[..., 0] > 1).long()

def make():
    return Second()
"""
    )
    (tmp_path / "m.yaml").write_text(
        """
name: batches
models: {second: {source: module, function: "second:make", classes: [circle]}}
opsets: [17]
shapes:
  one: {min: 1x3x64x64, opt: 1x3x64x64, max: 2x3x64x64}
  two: {min: 1x3x64x64, opt: 2x3x64x64, max: 2x3x64x64}
runtimes: [onnxruntime]
dataset: {type: synthetic, count: 4, seed: 7, size: 64}
measure: {seconds: 0.1, max_seconds: 1, warmup_seconds: 0, min_samples: 10, threads: 1}
compare: false
"""
    )
    words = ("--executor", "inline", "--no-mlflow", "--results", tmp_path / "r")
    done = farm("run", tmp_path / "m.yaml", *words)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = pd.read_parquet(tmp_path / "r" / "leaderboard").set_index("shape")
    assert rows.loc["one"].status == "ok"
    assert "scores differ by 0.4" in rows.loc["two"].reason
