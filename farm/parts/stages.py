"""The farm's own stages, a descriptor each, in the order of the work.

STAGES are those of a matrix, TABLE_STAGES those of the table of models, which no matrix plans.

A stage is a file in `farm.stages` with the function `run`, its inputs in `farm.specs`, and a
descriptor here. One that runs an engine (`from_engine`) is planned by its descriptor alone; the
steps of the others are made in `farm.plan.file_steps`, and those of `compare`, once cells have been
measured, in `farm.plan.comparisons`.
"""

from __future__ import annotations

from farm import specs
from farm.parts import EngineRun, Stage


def _verify(run: EngineRun) -> specs.VerifyInputs:
    return specs.VerifyInputs(
        run.engine, run.prepared, run.reference, len(run.facts.classes), run.facts.mask_threshold,
        run.facts.mask_frame, run.target,
    )  # fmt: skip


def _evaluate(run: EngineRun) -> specs.EvaluateInputs:
    facts = run.facts
    return specs.EvaluateInputs(
        run.engine, run.prepared, run.reference, facts.classes, facts.clips_boxes,
        facts.mask_threshold, facts.mask_frame, run.target, run.max_ap_drop,
    )  # fmt: skip


def _measure(run: EngineRun) -> specs.MeasureInputs:
    how = run.measure
    bound, seconds = (how.server.p99_ms, how.server.max_seconds) if how.server else (None, 0.0)
    return specs.MeasureInputs(
        run.engine, run.prepared, run.target, how.seconds, how.most_seconds, how.warmup_seconds,
        how.min_samples, run.threads, how.throughput_seconds, bound, seconds,
    )  # fmt: skip


_AP = ("hotcoco", "pycocotools", "numpy")

STAGES = (
    Stage(name="check", inputs=specs.CheckInputs),
    Stage(name="prepare", inputs=specs.PrepareInputs),
    Stage(name="reference", inputs=specs.ReferenceInputs, packages=_AP),
    Stage(name="export", inputs=specs.ExportInputs, packages=("onnx",)),
    Stage(name="convert", inputs=specs.ConvertInputs, packages=("onnx",)),
    Stage(name="build", inputs=specs.BuildInputs, on_target=True),
    Stage(
        name="verify",
        inputs=specs.VerifyInputs,
        from_engine=_verify,
        on_target=True,
        shares_gpu=True,
        files=("pairs.npz", "raw.npz"),
    ),
    Stage(
        name="evaluate",
        inputs=specs.EvaluateInputs,
        packages=_AP,
        from_engine=_evaluate,
        on_target=True,
        shares_gpu=True,
        raw_outputs=False,
    ),
    Stage(
        name="measure",
        inputs=specs.MeasureInputs,
        from_engine=_measure,
        on_target=True,
        exclusive=True,
        files=("samples.npy",),
    ),
    Stage(
        name="compare",
        inputs=specs.CompareInputs,
        packages=("numpy", "scipy"),
        on_target=True,
        exclusive=True,
        joint=True,
        files=("blocks.npy",),
    ),
)

TABLE_STAGES = (
    Stage(name="table.config", inputs=specs.ConfigInputs),
    Stage(name="table.reference", inputs=specs.RandomModelInputs),
    Stage(name="table.trial", inputs=specs.TrialInputs, packages=("pycocotools", "numpy")),
)
