"""Cells, how far their engines may be from the reference, and the GPUs that they run on."""

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


@dataclass(frozen=True)
class Tolerance:
    """How far an engine's answers may be from the reference's.

    min_score: boxes that one side scores at least so are compared. min_iou: from which two boxes
    are a match. min_matched_fraction: of the boxes compared. max_score_diff, max_box_diff_px,
    min_mask_iou: of every match; min_mean_mask_iou: of the matches' masks on average.
    max_rel_diff: of raw outputs, the largest difference over the tensor's largest value.
    per_box: a match beyond a limit counts as none, where otherwise it makes another detector.
    """

    min_score: float = 0.3
    min_iou: float = 0.9
    min_matched_fraction: float = 0.99
    max_score_diff: float = 1e-3
    max_box_diff_px: float = 1.0
    min_mask_iou: float = 0.9
    min_mean_mask_iou: float = 0.0
    max_rel_diff: float = 1e-3
    per_box: bool = False


@dataclass(frozen=True)
class Gpu:
    """One GPU: `NVIDIA H200`, compute capability `9.0`, driver `580.95.05`.

    memory_bytes: 0 where it was not looked for.
    """

    name: str
    compute_capability: str
    driver: str
    memory_bytes: int = 0

    @property
    def branch(self) -> str:
        """The driver's branch: NVIDIA keeps engines compatible within one, and numbers it so."""
        return self.driver.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.name} ({self.compute_capability}, driver {self.branch})"
