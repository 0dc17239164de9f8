"""Names of runs in MLflow: what differs in the sweep, as short as its pages show it."""

from __future__ import annotations

from typing import Any

import pytest
from rows import row

from farm.results.tracking.names import _cut, run_names


def names(*rows: dict[str, Any]) -> list[str]:
    numbered = [{**one, "cell": f"cell{n}"} for n, one in enumerate(rows)]
    found = run_names(numbered)
    assert [*found] == [one["cell"] for one in numbered]
    return [*found.values()]


def test_a_name_is_what_differs_in_the_sweep() -> None:
    cells = [row("", model=m, opset=17, runtime=r) for m in "ab" for r in ("openvino", "torch")]
    assert names(*cells) == ["a ov", "a torch", "b ov", "b torch"]
    assert names(row("", opset=17, shape="fixed")) == ["cell0"]  # nothing does
    assert names(row("", opset=11), row("", opset=None)) == ["op11", "cell1"]
    sizes = [row("", workspace_bytes=size) for size in (None, 1 << 30)]
    assert names(*sizes) == ["cell0", "1GiB"]


def test_twenty_characters_tell_the_cells_of_a_sweep_apart() -> None:
    models = ["retinanet_r50_fpn_1x_coco", "retinanet_r101_fpn_1x_coco", "ssd300_coco"]
    runtimes = ["onnxruntime", "onnxruntime@1.20", "openvino@2025.2", "tensorrt", "torch"]
    cells = [
        row("", model=model, opset=opset, runtime=runtime, shape=shape, precision=precision)
        for model in models
        for opset in (11, 17)
        for runtime in runtimes
        for shape in ("fixed", "dynamic")
        for precision in ("fp32", "int8")
    ]
    found = names(*cells)
    assert len({name[:20] for name in found}) == len(cells) == 120
    same = [row("", model=f"yolox_coco_{letter}" * 3) for letter in "abc"]
    assert len({name[:20] for name in names(*same)}) == 3
    many = [row("", shape=f"a_very_long_name_of_a_shape_{n}") for n in range(40)]
    assert len({name[:20] for name in names(*many)}) == 40


def test_cells_that_no_axis_tells_apart_are_numbered() -> None:
    cells = [row("", opset=opset) for opset in (11, 11, 17)]
    assert names(*cells) == ["1 cell0", "2 cell1", "3 cell2"]
    ten = [row("", opset=11)] * 9 + [row("", opset=17)]
    assert names(*ten)[::9] == ["01 cell0", "10 cell9"]
    long = [row("", model="a" * 20 + letter) for letter in "xy"]
    assert names(*long) == ["1 cell0", "2 cell1"]


def test_runtimes_have_the_names_that_people_write() -> None:
    long = ["onnxruntime", "onnxruntime_cuda", "onnxruntime_tensorrt", "openvino@2025.2"]
    long += ["tensorrt", "tensorrt_rtx", "torch"]
    short = ["ort", "ort-cuda", "ort-trt", "ov@2025.2", "trt", "rtx", "torch"]
    assert names(*(row("", runtime=one) for one in long)) == short


@pytest.mark.parametrize(
    ("models", "found"),
    [
        (["a" * 19 + "x", "a" * 19 + "y"], ["a" * 19 + "x", "a" * 19 + "y"]),  # they fit
        (["net_of_a", "net_of_b"], ["net_of_a", "net_of_b"]),
        (["model_of_letters_ab"] * 2 + ["model_of_letters_cd"] * 2, ["ab", "ab", "cd", "cd"]),
        (["retinanet_r50_fpn_1x_coco"] * 2 + ["retinanet_r101_fpn_1x_coco"] * 2,
         ["r50_fpn_1x_coco"] * 2 + ["r101_fpn_1x_coco"] * 2),
        (["a_network"] * 2 + ["a_network_of_a_long_name"] * 2,
         ["network"] * 2 + ["network_of_a_long_"] * 2),
    ],
)  # fmt: skip
def test_of_long_values_is_shown_what_tells_them_apart(models: list[str], found: list[str]) -> None:
    precisions = ["fp32", "int8"] if len(models) > 2 else [None, None]
    pairs = zip(models, precisions * 2, strict=False)
    cells = [row("", model=model, precision=precision) for model, precision in pairs]
    expected = [" ".join(filter(None, one)) for one in zip(found, precisions * 2, strict=False)]
    assert names(*cells) == expected


def test_values_are_cut_to_one_character_where_many_axes_differ() -> None:
    axes = ("model", "runtime", "precision", "shape", "postprocess", "target")
    rows = [
        row("", opset=opset, workspace_bytes=size << 30, **dict.fromkeys(axes, value))
        for opset, size, value in ((11, 1, "xyz"), (17, 2, "yzx"))
    ]
    rows.append({**rows[1], "target": "zxy"})
    assert names(*rows) == ["x x x op11 x x 1 x", "y y y op17 y y 2 y", "y y y op17 y y 2 z"]


def test_values_are_cut_to_no_more_characters_than_tell_them_apart() -> None:
    assert _cut(["aabxyz", "aacxyz"], 2) == ["aab", "aac"]
    assert _cut(["aabxyz", "aacxyz"], 4) == ["aabx", "aacx"]
    long = [
        "p" * 20 + "_" + text for text in ("abcdefghijklmnopqrstuvw", "bcdefghijklmnopqrstuvwx")
    ]
    assert names(*(row("", model=one) for one in long)) == [one[21:40] for one in long]
