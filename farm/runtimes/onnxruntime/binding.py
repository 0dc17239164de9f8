"""A session whose inputs and outputs stay on its device, and are copied once each way a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


class BoundSession:
    """A session from host memory to host memory with buffers on the device.

    The buffer of the images is used again while their shape is the same. Outputs of known size have
    buffers of their own; ONNX Runtime allocates the others in each run. device: `cuda`, or `cpu`
    for a session without a GPU.
    """

    def __init__(self, session: ort.InferenceSession, device: str, cuda_graph: bool = False):
        self._session: ort.InferenceSession | None = session
        self._device, self.uses_cuda_graph = device, cuda_graph
        self._binding = session.io_binding()
        self._input = session.get_inputs()[0].name
        self._images: Any = None
        outputs = session.get_outputs()
        self._names = [output.name for output in outputs]
        self._free = [output.name for output in outputs if not is_fixed(output)]
        for output in outputs:  # results come in this order
            self._bind(output)

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """Run the model; see `farm.runtimes.Session`."""
        assert self._session is not None
        self._bind_images(images)
        for name in self._free:  # each time: a bound result would fix the size of the next
            self._binding.bind_output(name, self._device)
        self._session.run_with_iobinding(self._binding)
        values = self._binding.copy_outputs_to_cpu()
        return dict(zip(self._names, values, strict=True))

    def close(self) -> None:
        """Free the session and its buffers."""
        self._images = self._binding = self._session = None

    def _bind_images(self, images: npt.NDArray[np.float32]) -> None:
        if self._images is not None and tuple(self._images.shape()) == images.shape:
            self._images.update_inplace(images)
            return
        self._images = ort.OrtValue.ortvalue_from_numpy(images, self._device, 0)
        self._binding.bind_ortvalue_input(self._input, self._images)

    def _bind(self, output: Any) -> None:
        if not is_fixed(output):
            self._binding.bind_output(output.name, self._device)
            return
        make = ort.OrtValue.ortvalue_from_shape_and_type
        buffer = make(output.shape, _DTYPES[output.type], self._device, 0)
        self._binding.bind_ortvalue_output(output.name, buffer)


def is_fixed(output: Any) -> bool:
    """Whether the model states the size of the output on every axis."""
    fixed = all(isinstance(size, int) for size in output.shape)
    return fixed and output.type in _DTYPES
