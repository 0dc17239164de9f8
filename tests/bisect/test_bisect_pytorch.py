"""An ONNX file against the PyTorch module that it was exported of, module by module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from farm.bisect.graphs import Graph
from farm.bisect.locate import Locate, Located
from farm.bisect.pytorch import PyTorch
from farm.bisect.sides import Reference
from farm.sources import onnx_files
from farm.specs import Dims, Shape

pytestmark = pytest.mark.slow

SIZE = Dims(1, 3, 32, 32)


class Block(nn.Module):
    """Normalisations, which the exporter puts into the convolutions, an activation that is called
    twice and works in place, and an addition."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(cin, cout, 3, 2, 1), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = nn.Conv2d(cout, cout, 3, 1, 1), nn.BatchNorm2d(cout)
        self.short = nn.Conv2d(cin, cout, 1, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        found = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(found + self.short(x))


class Net(nn.Module):
    outputs = ("heat", "extent")

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(Block(3, 8), Block(8, 8))
        self.towers = nn.ModuleList(nn.Conv2d(8, 8, 3, 1, 1) for _ in range(2))
        self.act = nn.SiLU()
        self.heat, self.extent = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 2, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stages(images)
        for tower in self.towers:
            x = self.act(tower(x))
        return self.heat(x), self.extent(x)


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    made = Net().eval()
    for one in made.modules():
        if isinstance(one, nn.BatchNorm2d):
            one.running_mean.uniform_(-0.5, 0.5)
            one.running_var.uniform_(0.5, 2)
    return made


@pytest.fixture(scope="module")
def exported(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    onnx_files.write(net, Shape("fixed", SIZE, SIZE, SIZE), 17, path)
    return path


def located(net: Net, model: onnx.ModelProto) -> tuple[Located, dict[str, str]]:
    images = np.random.default_rng(1).normal(size=SIZE.as_tuple()).astype(np.float32)
    graph = Graph(model)
    pytorch, file = PyTorch(net, graph, images), Reference(graph, images, 1)
    calls = pytorch.match(file.shapes())
    part = graph.only({*calls, *graph.outputs})
    search = Locate(part, pytorch, file, file.shapes(), 1e-3, 1 << 24)
    modules = {value: call.module for value, call in calls.items()}
    return search.run(graph.outputs, explain=False), modules


def test_an_exported_file_agrees_in_every_module(net: Net, exported: Path) -> None:
    found, modules = located(net, onnx.load(str(exported)))
    assert found.found is None
    # Each call of the activations, too; the convolutions before a normalisation stand for that.
    assert sorted(modules.values()) == sorted(
        [f"stages.{i}.{name}" for i in (0, 1) for name in ("bn1", "bn2", "relu", "relu", "short")]
        + ["towers.0", "towers.1", "act", "act", "heat", "extent"]
    )


@pytest.mark.parametrize(
    ("node", "module"),
    [
        ("/stages/stages.0/conv2/Conv", "stages.0.bn2"),
        ("/stages/stages.1/short/Conv", "stages.1.short"),
        ("/towers.1/Conv", "towers.1"),
        ("/extent/Conv", "extent"),
    ],
)
def test_the_module_of_a_fault_is_named(net: Net, exported: Path, node: str, module: str) -> None:
    model = onnx.load(str(exported))
    layer = next(one for one in model.graph.node if one.name == node)
    weight = next(one for one in model.graph.initializer if one.name == layer.input[1])
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] += np.abs(values).max()
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    found, modules = located(net, model)
    assert found.found is not None and modules[found.found.value] == module
    assert all(one.relative < 1e-4 for one in found.found.inputs.values())
