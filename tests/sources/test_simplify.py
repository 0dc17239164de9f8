"""`simplify: true`: fewer nodes and the same outputs, checked again and the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT

from farm import specs
from farm.errors import StepFailed
from farm.specs import Dims

pytestmark = pytest.mark.slow

OPT = Dims(1, 3, 96, 128)
SHAPES = {
    "fixed": specs.Shape("f", OPT, OPT, OPT),
    "dynamic": specs.Shape("d", Dims(1, 3, 1, 1), OPT, Dims(9, 3, 999, 999)),
}


@pytest.fixture(scope="module")
def detectors() -> dict[str, Any]:
    from farm.catalog import SOURCES

    demo = PROJECT / "matrices/demo"
    return {
        name: SOURCES["mmdet"]
        .adapter()
        .load(
            specs.Model(
                name,
                "mmdet",
                specs.File(str(demo / f"{name}.py"), ""),
                specs.File(str(demo / f"{name}.pth"), ""),
            )
        )
        for name in ("onestage", "twostage")
    }


def images(count: int, height: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A drawn scene, as the demo's models see it: on noise they find nothing."""
    from farm.datasets.synthetic import draw_scene

    scenes = [draw_scene(7, number, 160).image[:height, :width, ::-1] for number in range(count)]
    batch = np.stack(scenes).transpose(0, 3, 1, 2).astype(np.float32)
    return np.ascontiguousarray((batch - 116.0) / np.float32(57.0), np.float32)


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
@pytest.mark.parametrize(
    ("name", "postprocess"), [("onestage", "host"), ("twostage", "graph"), ("twostage", "none")]
)
def test_the_outputs_stay_at_every_shape(
    detectors: dict[str, Any], tmp_path: Path, name: str, postprocess: str, kind: str, opset: int
) -> None:
    import onnx
    import onnxruntime

    from farm.catalog import SOURCES
    from farm.sources.simplify import simplify

    plain, simple = tmp_path / "plain.onnx", tmp_path / "simple.onnx"
    export = SOURCES["mmdet"].adapter().export_onnx
    export(detectors[name], SHAPES[kind], opset, plain, postprocess)
    simple.write_bytes(plain.read_bytes())
    simplify(simple)
    before, after = onnx.load(plain), onnx.load(simple)
    assert len(after.graph.node) < 0.8 * len(before.graph.node)
    assert after.ir_version == before.ir_version
    assert after.opset_import[0].version == opset
    assert [v.name for v in after.graph.output] == [v.name for v in before.graph.output]
    first = simple.read_bytes()
    simple.write_bytes(plain.read_bytes())
    simplify(simple)
    assert simple.read_bytes() == first
    sessions = [
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for path in (plain, simple)
    ]
    for size in [(1, 96, 128), *([(2, 128, 160)] * (kind == "dynamic"))]:
        expected, found = (session.run(None, {"images": images(*size)}) for session in sessions)
        if postprocess == "graph":
            assert (expected[0][..., 4] > 0.3).sum() >= 2
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_allclose(b, a, atol=1e-4, rtol=0)


def test_a_file_that_the_tool_breaks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx
    import onnxslim
    from onnx import TensorProto, helper

    from farm.sources.simplify import simplify

    def model(kind: str) -> onnx.ModelProto:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
        graph = helper.make_graph(
            [helper.make_node(kind, ["x"], ["y"])], "g", [values[0]], values[1:]
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])

    path = tmp_path / "x.onnx"
    onnx.save(model("Relu"), path)
    simplify(path)
    monkeypatch.setattr(onnxslim, "slim", lambda _: model("NoSuchOperator"))
    with pytest.raises(StepFailed, match="simplification failed: ValidationError"):
        simplify(path)

    def broken(_: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr(onnxslim, "slim", broken)
    with pytest.raises(StepFailed, match="simplification failed: IndexError: list index"):
        simplify(path)
