"""README.md and requirements.txt of a bundle."""

from __future__ import annotations

from typing import Any

from farm.runtimes import tensorrt

_PROGRAM = """\
import cv2
from detector import Detector

detector = Detector(".")  # the path of this folder
image = cv2.imread("{image}")
found = detector.detect(image)
for box, score, name in zip(found.boxes, found.scores, found.names):
    if score >= 0.3:
        print(name, round(float(score), 3), box.round(1).tolist())
"""

_README = """\
# {model}: {cell}

A detector of {classes}, as an engine of {title} {version}. Written by farm {farm} on {written}.

```sh
pip install -r requirements.txt   # numpy, OpenCV and {needs}
python detector.py --check        # files, versions, and the boxes of the sample image
python detector.py {image}
```

In a program of your own, with this folder in `sys.path`:

```python
{program}```

`found.boxes` is float32 [K, 4], x1 y1 x2 y2 in pixels of the image, best score first.
`found.labels` are the numbers of `found.names`.{masks}

| file | what it is | where it holds |
|---|---|---|
| `{engine}` | the engine that was measured | {title} {version} on {device} |
| `{onnx}` | the detector as standard ONNX, opset {opset} | any machine and runtime |
| `bundle.json` | labels, preprocessing, outputs, versions, figures, and the sha256 of each file | |
| `detector.py` | a program that runs it; numpy, OpenCV and {needs} alone | |
| `{image}` | an image whose boxes are known, for `--check` | |
{more}
Where the version or the {processor} differs, `detector.py` runs `{onnx}` in the engine's place{by}
and warns (`Detector(folder, fallback=False)` refuses). A changed byte in the engine, the ONNX file
or `bundle.json` is refused.{untried}

## Figures

{figures}
Measured on {device}; `bundle.json` has all figures with their intervals.
"""

_TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt": "TensorRT"}

_CPU = {"needs": "the runtime", "processor": "processor", "by": "", "untried": ""}
_GPU = {
    "needs": "TensorRT with cuda-bindings, or ONNX Runtime",
    "processor": "GPU",
    "by": ",\nin ONNX Runtime on the CPU,",
    "untried": """

The part of `detector.py` that runs TensorRT was tested against stand-ins of TensorRT and CUDA,
never on a GPU: `python detector.py --check` tells whether it finds the expected boxes on yours.""",
}
"""What differs in README.md between engines of CPUs and of GPUs."""


def readme(bundle: dict[str, Any], others: dict[str, str]) -> str:
    """Return the text of README.md. others: what other files and folders are, by name."""
    engine, labels = bundle["engine"], bundle["labels"]
    shown = ", ".join(labels[:8]) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")
    masks = " `found.masks` is bool [K, H, W]." if bundle["postprocess"]["masks"] else ""
    image = bundle["sample"]["image"]
    return _README.format(
        **{name: bundle[name] for name in ("model", "cell", "farm", "written")},
        **(_GPU if engine["runtime"] == "tensorrt" else _CPU),
        classes=shown,
        title=_TITLES[engine["runtime"]],
        version=engine["version"],
        device=engine["device"],
        engine=engine["file"],
        onnx=bundle["onnx"]["file"],
        opset=bundle["onnx"]["opset"],
        image=image,
        masks=masks,
        program=_PROGRAM.format(image=image),
        more="".join(f"| `{name}` | {text} | |\n" for name, text in others.items()),
        figures=_figures(bundle["figures"]),
    )


_ENDS = ("drop_low", "drop_high")
"""Of the interval of what is lost of AP."""


def _figures(values: dict[str, Any]) -> str:
    lines = []
    for kind, metric in (("box", "bbox_mAP"), ("mask", "segm_mAP")):
        if (ap := values.get(metric)) is not None:
            drop, *ends = (values.get(f"{metric}_{end}") for end in ("drop", *_ENDS))
            beside = f", {drop:+.4f} lost against PyTorch" if drop is not None else ""
            if drop is not None and None not in ends:
                beside += f" (95 % interval {ends[0]:+.4f} to {ends[1]:+.4f})"
            lines.append(f"- {kind} AP {ap:.4f}{beside}, on {values['evaluate_images']} images\n")
    if (latency := values.get("latency_p50_ms")) is not None:
        at = f" on {values['threads']} cores" if "threads" in values else ""
        slow = values.get("latency_p99_ms")
        tail = f", {slow:.2f} ms (p99)" if slow is not None else ""
        lines.append(f"- latency {latency:.2f} ms (p50){tail}{at}\n")
    return "".join(lines)


def requirements(bundle: dict[str, Any]) -> str:
    """Return the text of requirements.txt: the versions with which the figures were made."""
    versions, engine = bundle["versions"], bundle["engine"]
    names = [name for name in ("numpy", "opencv-python-headless") if name in versions]
    lines = [f"{name}=={versions[name]}" for name in names]
    lines.append(f"{engine['runtime']}=={engine['version']}")
    if engine["runtime"] == "tensorrt":
        lines += [tensorrt.RUNTIME.needs[0], "onnxruntime>=1.20  # runs model.onnx without the GPU"]
    return "\n".join(lines) + "\n"
