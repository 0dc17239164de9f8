"""Run by a Python that has OpenVINO Model API: its boxes beside those of `detector.py`.

    python by_model_api.py BUNDLE IMAGES

Prints the largest differences of boxes and scores, of the images as they are and enlarged.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

bundle, images = sys.argv[1:]
sys.path.insert(0, bundle)
from detector import Detector  # noqa: E402
from model_api.adapters import OpenvinoAdapter, create_core  # noqa: E402
from model_api.models import Model  # noqa: E402

hint = {"INFERENCE_PRECISION_HINT": "f32"}
ir = f"{bundle}/openvino/model.xml"
model = Model.create_model(OpenvinoAdapter(create_core(), ir, device="CPU", plugin_config=hint))
detector = Detector(bundle)


def differences(image):
    found, other = detector.detect(image), model(image)
    far = []
    for box, score, name in zip(found.boxes, found.scores, found.names, strict=True):
        if score < 0.3:
            continue
        same = np.array(other.label_names) == name
        boxes = np.abs(other.bboxes.astype(float) - box).max(1)[same]
        nearest = boxes.argmin()
        far.append((boxes[nearest], abs(other.scores[same][nearest] - score)))
    return np.array(far)


as_they_are, resized = [], []
for path in sorted(Path(images).iterdir()):
    image = cv2.imread(str(path))
    as_they_are.append(differences(image))
    resized.append(differences(cv2.resize(image, (200, 280), interpolation=cv2.INTER_CUBIC)))
for kind in (as_they_are, resized):
    rows = np.concatenate([one for one in kind if len(one)])
    print(len(rows), *rows.max(0))
