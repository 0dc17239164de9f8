"""Run by a Python that has no farm and no PyTorch: all images of a folder through a bundle.

python outside.py BUNDLE IMAGES OUTPUT.npz
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

bundle, images, output = sys.argv[1:]
for name in ("farm", "torch", "mmdet", "mmcv", "onnx", "pycocotools"):
    assert importlib.util.find_spec(name) is None, name
sys.path.insert(0, bundle)
from detector import Detector  # noqa: E402

detector = Detector(bundle)
print(detector.runs)
arrays = {}
for path in sorted(Path(images).iterdir()):
    found = detector.detect(path)
    arrays[f"{path.name}/boxes"] = found.boxes
    arrays[f"{path.name}/scores"] = found.scores
    arrays[f"{path.name}/names"] = np.array(found.names, "U")
    if found.masks is not None:
        arrays[f"{path.name}/masks"] = found.masks
np.savez(output, **arrays)
