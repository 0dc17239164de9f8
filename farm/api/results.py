"""What is done with results: show, pick, compare and bundle engines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from farm.api.given import PathLike, conditions, place

if TYPE_CHECKING:
    import pandas as pd

    from farm.results.picking.answers import Answer


@dataclass(frozen=True)
class Best:
    """The engine to ship of one model on one target.

    cell: the name of the picked cell; None where no engine meets the criteria. why: the reason for
    the pick, or what is in the way. row: the cell's row of the leaderboard, by column; empty
    without a pick. onnx, engine: where its files lie; None where they are not in the store.
    ties: the cells that cannot be told apart from it in speed. doubt: why the images are too few to
    show that it keeps to `max_ap_drop`; "" if they are not. left_out: why other cells were not
    picked, by their names. sweeps: whose cells were looked at.
    """

    target: str
    model: str
    cell: str | None
    why: str
    row: Mapping[str, Any] = field(repr=False)
    onnx: Path | None
    engine: Path | None
    ties: tuple[str, ...]
    doubt: str
    left_out: Mapping[str, str] = field(repr=False)
    sweeps: tuple[str, ...]


def leaderboard(
    *,
    results: PathLike | None = None,
    target: str | None = None,
    sweep: str | None = None,
    where: str | Iterable[str] = (),
    sort: str | None = None,
    columns: str | Iterable[str] = (),
    top: int | None = None,
) -> pd.DataFrame:
    """Return the results of all sweeps, a row for each cell.

    Args:
        results: Where results are.
        target: Only the cells of this target.
        sweep: Only the cells of this sweep.
        where: Conditions that cells must meet, as `engine_bytes < 50MB`, `runtime = openvino@*`.
        sort: Columns to sort by, with commas between them; a - before one puts its largest value
            first. By default by target, sweep and model, the fastest first.
        columns: The columns that are wanted; all by default.
        top: How many rows at most.

    Returns:
        A pandas DataFrame. Latencies are in ms, AP from 0 to 1, sizes in bytes, throughput in
        images a second; docs/picking.md says more. Missing values are NA.

    Raises:
        InputError: There is no leaderboard, or no such target, sweep or column.
    """
    from farm.cli.results import results_of
    from farm.results.leaderboard.frames import frame_of
    from farm.results.tables.render import sort_rows
    from farm.results.tables.views import View, parse_columns, parse_sort

    wanted = columns if isinstance(columns, str) else ",".join(columns)
    view = View(
        conditions(where),
        parse_sort(sort) if sort else (),
        parse_columns(wanted) if wanted else (),
        top,
    )
    rows = results_of(place(results), only_read=True).read(target, sweep)
    return frame_of(view.of(sort_rows(rows)), view.columns)


def best(
    *,
    results: PathLike | None = None,
    target: str | None = None,
    model: str | None = None,
    sweep: str | None = None,
    all_sweeps: bool = False,
    objective: Literal["latency", "throughput", "ap"] = "latency",
    max_ap_drop: float = 0.5,
    confident: bool = False,
    min_ap: float | None = None,
    max_latency_ms: float | None = None,
    where: str | Iterable[str] = (),
    postprocess: Literal["graph", "host", "none"] | None = None,
) -> list[Best]:
    """Pick the engine to ship of each target and model.

    Args:
        results: Where results are.
        target: The target that the engine is for; every target by default.
        model: The model; every model by default.
        sweep: Only engines of this sweep; of each target the one written last by default.
        all_sweeps: Engines of all sweeps together, whose figures were not taken side by side.
        objective: What the engine is to be best in.
        max_ap_drop: AP that may be lost against PyTorch, in points of 100.
        confident: Whether the upper end of the drop's 95 % interval is held against it.
        min_ap: The least box AP, 0 to 1.
        max_latency_ms: The largest p50 latency.
        where: Conditions as of `leaderboard`.
        postprocess: Only engines whose graphs end there.

    Returns:
        A pick for each target and model, in alphabetical order, also where no engine is found.

    Raises:
        InputError: There is no leaderboard, or no such target, sweep, model, column or objective.
    """
    from farm.cli.best import OBJECTIVES, Wanted, criteria_of, picked
    from farm.cli.results import results_of
    from farm.errors import InputError, nearest

    if objective not in OBJECTIVES:
        known = nearest(str(objective), OBJECTIVES)
        raise InputError(f"unknown objective {objective!r}{known}", "objective")
    criteria = criteria_of(
        objective=objective,
        max_ap_drop=max_ap_drop,
        confident=confident,
        min_ap=min_ap,
        max_latency_ms=max_latency_ms,
        where=conditions(where),
        postprocess=postprocess,
    )
    wanted = Wanted(target, model, sweep, all_sweeps)
    _, answers = picked(results_of(place(results), only_read=True), wanted, criteria)
    return [_best(answer, name) for answer in answers for name in sorted(answer.picks)]


def compare(
    cells: Sequence[str],
    *,
    results: PathLike | None = None,
    sweep: str | None = None,
    seconds: float = 15.0,
    margin: float = 0.02,
) -> pd.DataFrame:
    """Run the engines of some cells in turn on this machine, and rank them by speed.

    Args:
        cells: Two or more names of cells of one target, as in the column `cell`.
        results: Where results are.
        sweep: Needed where several sweeps have a cell of that name.
        seconds: The budget for each engine; it ends earlier when the order is shown.
        margin: Engines are tied that differ by no more than this fraction.

    Returns:
        A pandas DataFrame with a row for each cell, by rank: `rank`, `vs_best` (its time over that
        of the best) with the ends of its 95 % interval `vs_best_low` and `vs_best_high`,
        `latency_p50_ms`, `rounds`. Cells that share a rank cannot be told apart.

    Raises:
        InputError: A cell is not there, or cannot be compared with the others here.
        StepFailed: The comparison failed.
    """
    import pandas as pd

    from farm.cli.compare import compared
    from farm.cli.results import results_of

    found = compared(
        tuple(cells), results_of(place(results), only_read=True), sweep, seconds, margin
    )
    names = ("cell", "rank", "vs_best", "vs_best_low", "vs_best_high", "latency_p50_ms", "rounds")
    rows = sorted(found["entrants"].values(), key=lambda one: (one["rank"], one["vs_best"]))
    return pd.DataFrame([{name: one.get(name) for name in names} for one in rows])


def bundle(
    cell: str,
    folder: PathLike,
    *,
    results: PathLike | None = None,
    sweep: str | None = None,
    sample: PathLike | None = None,
    triton: bool = False,
) -> Path:
    """Write the engine of a cell with all that a program needs to use it.

    Args:
        cell: The name of a finished cell, as in the column `cell`.
        folder: A new or empty folder.
        results: Where results are.
        sweep: Needed where several sweeps have a cell of that name.
        sample: An image in place of one of the data set.
        triton: Whether to write a model repository of Triton Inference Server, too.

    Returns:
        The folder, with `detector.py`, `bundle.json`, the engine and the ONNX file.

    Raises:
        InputError: The cell, the folder or the image is wrong.
        StepFailed: The bundle would be another detector than the cell's.
    """
    from farm.bundle.command import write_bundle
    from farm.cli.results import results_of

    image = None if sample is None else str(sample)
    return write_bundle(
        cell, str(folder), results_of(place(results), only_read=True), sweep, image, triton
    )


def _best(answer: Answer, model: str) -> Best:
    from farm.results.names import with_outer_names

    picked, files = answer.picks[model], answer.files.get(model, {})
    ways = [f"{one.constraint}: {one.cell} {one.reason}" for one in picked.obstacles]
    return Best(
        target=answer.target,
        model=model,
        cell=picked.best["cell"] if picked.best else None,
        why="; ".join([picked.why, *ways]),
        row=with_outer_names([picked.best])[0] if picked.best else {},
        onnx=Path(files["onnx"]) if "onnx" in files else None,
        engine=Path(files["engine"]) if "engine" in files else None,
        ties=tuple(row["cell"] for row in picked.ties),
        doubt=picked.doubt,
        left_out=dict(picked.left_out),
        sweeps=answer.sweeps,
    )
