"""PyTorch itself: the module that the exporter traces, run eagerly. It builds nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.runtimes.base import Runtime

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class TorchAdapter:
    """Runs torch modules."""

    def open_module(self, module: Any, threads: int) -> TorchSession:
        """Open a module, whose `outputs` are the names of what it returns."""
        import torch

        torch.set_num_threads(threads)
        return TorchSession(module)


class TorchSession:
    """A torch module in evaluation mode."""

    def __init__(self, module: Any) -> None:
        self._module: Any = module.eval()

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """Run the engine; see `farm.runtimes.Session`."""
        import torch

        assert self._module is not None
        with torch.inference_mode():
            values = self._module(torch.from_numpy(images))
        names = self._module.outputs  # a module of raw outputs knows them once it has run
        return {name: value.numpy() for name, value in zip(names, values, strict=True)}

    def close(self) -> None:
        """Release the module."""
        self._module = None


RUNTIME = Runtime(name="torch", packages=("torch", "mmcv-full", "mmdet"), modules=TorchAdapter)
