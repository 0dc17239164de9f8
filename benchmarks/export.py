"""What an export costs and leaves, model by model; each in a process of its own.

    python benchmarks/export.py [--family NAME ...] [--opset N]

nodes: of the farm's ONNX file (dynamic axes, post-processing within); raw: of what torch's
exporter makes of mmdet's own `onnx_export`, which mmdet's pytorch2onnx.py traces, at the same
opset, or why it makes nothing; seconds and peak: of the farm's export alone (the time includes
onnx's checker), the process's peak resident memory and what it had before the export.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", nargs="+", default=None)
    parser.add_argument("--opset", type=int, default=17)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--naive", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        export = naive if options.naive else ours
        print(json.dumps(export(options.one, options.opset)))
        return
    from farm.models.families import chosen

    names = options.family or [family.name for family in chosen([]) if family.published]
    chosen(names)  # raises an error that names unknown families
    print(f"{'model':<24} {'export s':>8} {'peak MiB':>8} {'before':>7} {'nodes':>6}  raw")
    for name in names:
        print(line(name, alone(name, options.opset), alone(name, options.opset, "--naive")))


def alone(name: str, opset: int, *more: str) -> dict[str, Any]:
    """The figures of one export, from a process of its own: its peak memory is then its own."""
    command = [sys.executable, __file__, "--one", name, "--opset", str(opset), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        return {"failed": reason[-1][:90] if reason else f"exit {done.returncode}"}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def line(name: str, found: dict[str, Any], raw: dict[str, Any]) -> str:
    other = raw.get("failed") or f"{raw['nodes']} nodes"
    if "failed" in found:
        return f"{name:<24} {found['failed']}  raw: {other}"
    return (
        f"{name:<24} {found['seconds']:>8.1f} {found['peak_mib']:>8.0f} {found['before_mib']:>7.0f}"
        f" {found['nodes']:>6}  {other}"
    )


def ours(name: str, opset: int) -> dict[str, Any]:
    import family_model

    from farm.models.families import chosen
    from farm.sources import mmdet as source

    with tempfile.TemporaryDirectory() as folder:
        family, path = chosen([name])[0], Path(folder) / "model.onnx"
        detector = family_model.load(family, Path(folder))
        before, started = _peak_mib(), time.perf_counter()
        source.export_onnx(detector, family.profile("dynamic"), opset, path)
        seconds = time.perf_counter() - started
        nodes = node_count(path)
        return {
            "seconds": seconds, "peak_mib": _peak_mib(), "before_mib": before, "nodes": nodes
        }  # fmt: skip


def naive(name: str, opset: int) -> dict[str, Any]:
    """Export with mmdet's own `onnx_export`, without the farm's replacements of operators."""
    import family_model
    import torch

    from farm.models.families import chosen
    from farm.sources.mmdet import random_weights

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        family, path = chosen([name])[0], Path(folder) / "model.onnx"
        detector = family_model.load(family, Path(folder))
        images = torch.from_numpy(random_weights.noise(family.shape, 1))
        module = MmdetsOwn(detector.model, images)
        torch.onnx.export(
            module, (images,), str(path), dynamo=False, autograd_inlining=False,
            opset_version=opset, input_names=["input"], dynamic_axes={"input": {2: "h", 3: "w"}},
        )  # fmt: skip
        return {"nodes": node_count(path)}


def MmdetsOwn(model: Any, images: Any) -> Any:
    """A module that calls `model` as mmdet's pytorch2onnx.py does."""
    import torch

    size = (*images.shape[2:], 3)
    meta = {
        "img_shape": size, "ori_shape": size, "pad_shape": size, "filename": "", "flip": False,
        "scale_factor": torch.ones(4).numpy(), "show_img": None, "flip_direction": None,
        "img_shape_for_onnx": torch.tensor(images.shape[2:]), "pad_shape_for_onnx": size,
        "batch_input_shape": images.shape[2:], "border": (0, size[0], 0, size[1]),
    }  # fmt: skip

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, img: torch.Tensor) -> Any:
            shape = torch._shape_as_tensor(img)[2:]
            meta["img_shape_for_onnx"] = shape
            return self.model.onnx_export(img, [meta])

    return Module()


def node_count(path: Path) -> int:
    """Nodes of an ONNX file's outermost graph."""
    import onnx

    return len(onnx.load(path, load_external_data=False).graph.node)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
