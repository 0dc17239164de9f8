"""The first matrix: shapes by the config's pipeline, what this machine can run, and its text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from farm.config.loader import load_matrix
from farm.init import machine
from farm.init.data import Data
from farm.init.machine import Here
from farm.init.shapes import Profile, profiles
from farm.init.text import First, named, text_of
from farm.runtimes.base import Finding
from farm.specs import Dims, ModelFacts, Sizes
from farm.specs.pipeline import Pad, Pipeline, Resize

FIXED = Dims(1, 3, 416, 416)


def facts(*steps: Resize | Pad, sizes: Sizes | None = None) -> ModelFacts:
    return ModelFacts(("a",), False, Pipeline(steps=steps).text, sizes=sizes)


def shown(found: dict[str, Profile]) -> dict[str, list[str]]:
    return {
        name: [f"{one.h}x{one.w}" for one in (of.min, of.opt, of.max) if one]
        for name, of in found.items()
    }


def test_shapes_are_those_of_the_test_pipeline() -> None:
    landscape, own = Dims(1, 3, 800, 1333), (Resize(), Pad(divisor=32))
    assert shown(dict(profiles(landscape, facts(*own)))) == {
        "fixed": ["800x1344"], "dynamic": ["416x416", "800x1344", "1344x1344"],
    }  # fmt: skip
    square = Dims(1, 3, 300, 300)
    assert shown(dict(profiles(square, facts(Resize(keep_ratio=False))))) == {"fixed": ["300x300"]}
    multiples = facts(*own, sizes=Sizes(64, (0,), 128))
    assert shown(dict(profiles(Dims(1, 3, 100, 416), multiples)))["fixed"] == ["128x448"]
    relative = profiles(None, facts(*own))["fixed"]
    assert relative.opt == Dims(1, 3, 512, 512) and "choose a size" in relative.text


def test_precisions_are_those_that_this_machine_computes_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = ("torch", "onnxruntime", "openvino")
    monkeypatch.setattr(machine.placement, "cpu_model", lambda: "X, Y (avx2 avx512_bf16)")
    assert machine._precisions(both, None) == ("fp32", "bf16")
    assert machine._precisions(("torch", "onnxruntime"), None) == ("fp32",)
    assert machine._precisions((*both, "tensorrt"), "L4") == ("fp32", "fp16", "bf16")
    monkeypatch.setattr(machine.placement, "cpu_model", lambda: "X, Y (avx2)")
    assert machine._precisions(both, None) == ("fp32",)


FIRST = First(
    name="own",
    model="own",
    config="own.py",
    checkpoint="own.pth",
    allow_pickle=False,
    labels=(),
    shapes={"fixed": Profile(FIXED, "letterboxed")},
    data=Data(
        {"type": "coco", "images": Path("/d/val"), "annotations": Path("/d/val.json")},
        60, ("a",), "60 images in COCO's format",
    ),
    here=Here(("torch", "onnxruntime", "openvino"), (), None, ("fp32", "bf16")),
    output=Path("/m/own.yaml"),
)  # fmt: skip


def cells(first: First, folder: Path) -> list[str]:
    (folder / "m.yaml").write_text(text_of(first))
    return [one.id for one in load_matrix(folder / "m.yaml").cells]


def test_the_text_is_a_matrix_with_the_cells_that_make_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cells(FIRST, tmp_path) == [
        "own.fixed.fp32.torch.cpu",
        "own.op17.fixed.fp32.onnxruntime.cpu",
        "own.op17.fixed.fp32.openvino.cpu",
        "own.op17.fixed.bf16.openvino.cpu",
    ]
    assert capsys.readouterr().err == ""  # no rule that changes nothing
    assert max(map(len, text_of(FIRST).splitlines())) <= 100


def test_the_text_says_what_is_missing_and_what_to_fill_in(tmp_path: Path) -> None:
    lacking = Finding("openvino", "missing", "not installed", "pip install openvino")
    first = replace(
        FIRST,
        labels=("hex nut", "yes"),
        allow_pickle=True,
        data=replace(FIRST.data, images=5000),
        here=Here(("torch", "onnxruntime"), (lacking,), None, ("fp32",)),
    )
    text = text_of(first)
    assert "openvino is not installed; to add it: pip install openvino" in text
    assert '# labels: [hex nut, "yes"]' in text and "limit: 200" in text
    assert "exclude" not in text and "allow_pickle: true" in text
    cells(first, tmp_path)


def test_a_gpu_is_a_target_of_its_own(tmp_path: Path) -> None:
    here = Here(("torch", "onnxruntime", "tensorrt"), (), "L4", ("fp32", "fp16"))
    found = cells(replace(FIRST, here=here), tmp_path)
    assert "own.op17.fixed.fp16.tensorrt.ws1GiB.l4" in found
    assert "own.op17.fixed.fp32.onnxruntime.cpu" in found


def test_odd_names_are_quoted(tmp_path: Path) -> None:
    first = replace(FIRST, config="a: b.py", checkpoint="#1.pth", model="no", name="on")
    values = yaml.safe_load(text_of(first))
    assert values["models"]["no"] == {"config": "a: b.py", "checkpoint": "#1.pth"}
    assert values["name"] == "on"


def test_paths_are_relative_within_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    matrix = tmp_path / "matrices" / "own.yaml"
    assert named(tmp_path / "data" / "val", matrix) == "../data/val"
    assert named(Path("/elsewhere/val"), matrix) == "/elsewhere/val"
    assert named(tmp_path / "data", Path("/elsewhere/own.yaml")) == str(tmp_path / "data")
