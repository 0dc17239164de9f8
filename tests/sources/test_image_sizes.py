"""Sizes that a network or a test pipeline does not take are refused at planning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from farm import specs
from farm.parsing import parse_dims
from farm.plan.machines.compatibility import shape_unsupported
from farm.sources import sizes
from farm.specs import ModelFacts, Shape, Sizes

YOLOX = Sizes(32, (0, 26, 28, 30))


def shape(opt: str, low: str = "", high: str = "") -> Shape:
    return Shape("s", *(parse_dims(text) for text in (low or opt, opt, high or opt)))


def facts(**values: Any) -> ModelFacts:
    return ModelFacts((), False, "", **values)


def test_a_fixed_size_that_is_no_multiple_is_refused_with_the_nearest() -> None:
    reason = shape_unsupported(facts(sizes=Sizes(32)), shape("400x600"), profiles=False)
    assert reason is not None
    assert "multiples of 32" in reason and "400x600" in reason
    assert reason.endswith("the nearest are 384x576 and 416x608")
    assert shape_unsupported(facts(sizes=Sizes(32)), shape("416x608"), profiles=False) is None


def test_a_size_that_only_rounds_up_runs_but_is_not_advised() -> None:
    assert shape_unsupported(facts(sizes=YOLOX), shape("410x416"), profiles=False) is None
    reason = shape_unsupported(facts(sizes=YOLOX), shape("400x410"), profiles=False)
    assert reason is not None and "384x410 and 416x410" in reason
    assert "multiples of 32, or of 32 and 26, 28 or 30 more" in reason


def test_a_least_size_is_said() -> None:
    reason = shape_unsupported(facts(sizes=Sizes(least=257)), shape("256x300"), profiles=False)
    assert reason is not None and "from 257 on" in reason and "nearest is 257x300" in reason


def test_cornernets_padding_is_refused_for_fixed_shapes_only() -> None:
    padded = facts(padded_to=Sizes(128, (127,)))
    reason = shape_unsupported(padded, shape("256x383"), profiles=False)
    assert reason is not None and "255x383 and 383x383" in reason
    assert "one less than multiples of 128" in reason
    assert shape_unsupported(padded, shape("320x320", "64x64", "640x640"), profiles=True) is None


def test_bounds_of_a_dynamic_shape_count_where_an_engine_is_built_for_them() -> None:
    yolo, dynamic = facts(sizes=Sizes(32)), shape("416x416", "300x320", "650x640")
    assert shape_unsupported(yolo, dynamic, profiles=False) is None
    reason = shape_unsupported(yolo, dynamic, profiles=True)
    assert reason is not None and "min of shape s is 300x320" in reason
    reason = shape_unsupported(yolo, shape("400x416", "320x320", "640x640"), profiles=False)
    assert reason is not None and "opt of shape s is 400x416" in reason


class Joined(nn.Module):
    """Halves `times` times by rounding up (or down), doubles again, and adds."""

    def __init__(self, times: int, padding: int = 1) -> None:
        super().__init__()
        self.times, self.halve = times, nn.Conv2d(3, 3, 3, 2, padding)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        levels = [images]
        for _ in range(self.times):
            levels.append(self.halve(levels[-1]))
        for level in reversed(levels[:-1]):
            levels[-1] = level + nn.functional.interpolate(levels[-1], scale_factor=2.0)
        return levels[-1]


def taken(module: nn.Module) -> Sizes | None:
    with torch.no_grad():
        return sizes.taken(lambda size: module(torch.zeros(1, 3, size, size)))


def test_what_a_network_takes_is_found_by_running_it() -> None:
    assert taken(nn.Conv2d(3, 3, 3, 2)) is None
    assert taken(Joined(1)) == Sizes(2)
    assert taken(Joined(4)) == Sizes(16)
    floor = nn.Sequential(nn.MaxPool2d(8), nn.Upsample(scale_factor=8.0))

    class Floor(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return floor(images) + images

    assert taken(Floor()) == Sizes(8)
    assert taken(nn.Conv2d(3, 3, 100)) == Sizes(least=100)


def test_no_answer_where_nothing_runs() -> None:
    assert taken(nn.Linear(7, 7)) is None


def test_a_size_for_which_memory_is_lacking_is_not_taken_for_one_that_does_not_run() -> None:
    def run(size: int) -> None:
        if size != 128:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    with pytest.raises(RuntimeError, match="allocate"):
        sizes.taken(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("yolox/yolox_nano_8x8_300e_coco.py", YOLOX),
        ("yolo/yolov3_mobilenetv2_mstrain-416_300e_coco.py", Sizes(32, (0, *range(25, 32)))),
        ("retinanet/retinanet_r18_fpn_1x_coco.py", None),
        ("ssd/ssd300_coco.py", Sizes(least=257)),
        ("solov2/solov2_light_r18_fpn_3x_coco.py", Sizes(32, (0, 29, 30, 31))),
        ("centernet/centernet_resnet18_dcnv2_140e_coco.py", None),  # no shapes alone: it is run
    ],
)
def test_what_families_take(name: str, expected: Sizes | None) -> None:
    from farm.plan.content.configs import config_file
    from farm.sources.mmdet import config, partial_graphs
    from farm.sources.mmdet import sizes as of_mmdet
    from farm.sources.mmdet.detector import Detector

    torch.set_num_threads(1)
    model = specs.Model("x", "mmdet", config_file(name, Path()), specs.File("", ""))
    built: Any = config.build(config.read(model), name)
    before = {key: value.device for key, value in built.state_dict().items()}
    detector = Detector(built, facts(raw_refused=partial_graphs.raw_refusal(built)))
    assert of_mmdet.taken(detector) == expected
    assert {key: value.device for key, value in built.state_dict().items()} == before


def test_sizes_come_back_from_the_store(tmp_path: Path) -> None:
    from dataclasses import asdict

    from farm.store.records import model_facts

    found = facts(sizes=YOLOX, padded_to=Sizes(128, (127,)))
    assert model_facts(json.loads(json.dumps(asdict(found)))) == found
