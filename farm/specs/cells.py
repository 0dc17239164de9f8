"""Cells: the combinations that a matrix asks for, and a plan makes steps of."""

from __future__ import annotations

from dataclasses import dataclass

from farm.units import format_bytes


@dataclass(frozen=True)
class Cell:
    """One combination. An axis that its runtime does not have is None."""

    model: str
    opset: int | None
    shape: str
    postprocess: str
    precision: str
    runtime: str
    workspace_bytes: int | None
    target: str

    @property
    def id(self) -> str:
        """The name of the cell in tables and options: `ssd.op17.fixed.fp32.onnxruntime.cpu`."""
        opset = f"op{self.opset}" if self.opset is not None else None
        workspace = f"ws{format_bytes(self.workspace_bytes)}" if self.workspace_bytes else None
        cut = self.postprocess if self.postprocess != "graph" else None
        parts = [self.model, opset, self.shape, cut, self.precision, self.runtime, workspace]
        return ".".join([part for part in parts if part] + [self.target])
