"""A backend of Triton in Python that runs a model's ONNX file, in place of the one in C++.

PyPI has a server of Triton (in the package nvidia-pytriton), and none of its backends for ONNX.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxruntime
import triton_python_backend_utils as utils


class TritonPythonModel:
    """Its name and its methods are those that the server asks for."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        path = folder / config["default_model_filename"]
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.outputs = [one.name for one in self.session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        feeds = {one.name(): one.as_numpy() for one in request.inputs()}
        values = self.session.run(self.outputs, feeds)
        found = zip(self.outputs, values, strict=True)
        return utils.InferenceResponse([utils.Tensor(name, value) for name, value in found])
