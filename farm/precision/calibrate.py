"""The range of every layer's input over real images, by ONNX Runtime's calibrators."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnxruntime.quantization import calibrate

from farm.runtimes.onnxruntime.sessions import cpu_session

if TYPE_CHECKING:
    from farm.detections import Floats

BINS = 2048


def measure_ranges(
    model: Path,
    names: Sequence[str],
    images: Iterable[Floats],
    method: str,
    percentile: float,
    folder: Path,
    threads: int,
) -> Any:
    """Measure the ranges of the float32 values `names`, as onnxruntime's TensorsData.

    method: `minmax`, `percentile` (of the absolute values, in percent) or `entropy`. images: as
    the graph's one input takes them, one batch after another: all values of a run are in memory.
    """
    calibrator = _calibrator(model, method, percentile, folder / "augmented.onnx")
    known = {name: onnx.helper.make_tensor_value_info(name, 1, None) for name in names}
    calibrator.select_tensors_to_calibrate = lambda graph: (set(names), known)
    calibrator.augment_graph()
    calibrator.infer_session = cpu_session(folder / "augmented.onnx", threads)
    source = calibrator.infer_session.get_inputs()[0].name
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every batch
        for batch in images:
            calibrator.collect_data(_One({source: batch}))
        found = calibrator.compute_data()
    (folder / "augmented.onnx").unlink()
    return found


def _calibrator(model: Path, method: str, percentile: float, augmented: Path) -> Any:
    own: dict[str, Any] = {"augmented_model_path": str(augmented), "symmetric": True}
    if method == "minmax":
        return calibrate.MinMaxCalibrater(str(model), [], **own)
    if method == "entropy":
        return calibrate.EntropyCalibrater(str(model), [], **own)
    return calibrate.PercentileCalibrater(
        str(model), [], num_bins=BINS, percentile=percentile, **own
    )


class _One(calibrate.CalibrationDataReader):  # type: ignore[misc] # ONNX Runtime has no types
    """A reader of one batch, since a calibrator keeps all batches of a reader in memory."""

    def __init__(self, batch: dict[str, Floats]) -> None:
        self._remaining: Iterator[dict[str, Floats]] = iter([batch])

    def get_next(self) -> Any:
        """Return the batch, then None."""
        return next(self._remaining, None)
