"""PyTorch's side: the outputs of modules, as values of the ONNX file that was exported of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from farm.bisect.calls import Call, matched

if TYPE_CHECKING:
    from farm.bisect.differences import Array
    from farm.bisect.graphs import Graph
    from farm.bisect.sides import Pins, Values
    from farm.detections import Floats


class PyTorch:
    """A module as it is exported, run with hooks on the modules in it.

    Values of the file that no module returns are left out, and before `match` all but its outputs.
    """

    def __init__(self, module: Any, graph: Graph, images: Floats) -> None:
        self._module, self._graph, self._images = module, graph, torch.from_numpy(images)
        self._all = [one.name for one in graph.model.graph.output]
        self._calls: Mapping[str, Call] = {}

    def match(self, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Call]:
        """Return the calls of modules by the values of the file that hold what they returned.

        shapes: of the values.
        """
        self._calls = matched(self._graph, self._watched(), shapes)
        return self._calls

    def values(self, names: Sequence[str], pins: Pins) -> Values:
        """Return the outputs of the modules that hold these values; see `Side`."""
        wanted = {
            (self._calls[name].module, self._calls[name].number): name
            for name in names
            if name in self._calls and name not in self._graph.outputs
        }
        found: dict[str, Array] = {}

        def keep(module: str, number: int, output: Any, _: Any) -> None:
            if (module, number) in wanted:
                found[wanted[module, number]] = output.numpy().copy()

        outputs = self._run(keep)
        return found | {name: outputs[name] for name in names if name in outputs}

    def _watched(self) -> list[Call]:
        """Run once, and return the calls that return one tensor, as they end."""
        leaves = {name for name, one in self._module.named_modules() if not any(one.children())}
        calls: list[Call] = []
        last: list[Any] = [None]

        def note(module: str, number: int, output: Any, inputs: tuple[Any, ...]) -> None:
            leaf = module in leaves
            follows = bool(inputs) and inputs[0] is last[0]
            calls.append(Call(module, number, tuple(output.shape), leaf, follows))
            if leaf:
                last[0] = output

        self._run(note)
        return calls

    def _run(self, note: Callable[[str, int, Any, tuple[Any, ...]], None]) -> dict[str, Array]:
        with torch.inference_mode(), _hooked(self._module, note):
            outputs = self._module(self._images)
        found = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        return {name: one.numpy() for name, one in zip(self._all, found, strict=True)}


@contextmanager
def _hooked(module: Any, note: Callable[[str, int, Any, tuple[Any, ...]], None]) -> Iterator[None]:
    """Call `note` with each call that returns one tensor: its module, its number, the tensor, and
    the module's inputs."""
    numbers = Counter[str]()

    def hook_of(name: str) -> Any:
        def hook(_: Any, inputs: tuple[Any, ...], output: Any) -> None:
            number = numbers[name]
            numbers[name] += 1
            if isinstance(output, torch.Tensor):
                note(name, number, output, inputs)

        return hook

    with ExitStack() as stack:
        for name, one in module.named_modules():
            if name:
                stack.callback(one.register_forward_hook(hook_of(name)).remove)
        yield
