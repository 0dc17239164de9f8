"""Tell what was picked for each target and model: as text, and as JSON for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from farm.results.names import with_outer_names
from farm.results.picking.ties import SAME_AP, pareto, with_trade_offs
from farm.results.tables.column_choice import shown_columns
from farm.results.tables.render import render_columns
from farm.results.tables.values import value_text
from farm.store.records import HERE
from farm.terminal import plain
from farm.terminal.tables import fields

if TYPE_CHECKING:
    from farm.results.columns import Row
    from farm.results.picking.select import Pick

_WIDTH = 78

_MOST_REASONS = 10

_IMPORTED = """\
the figures are those of the other machine, where its engine is:
run the cell on this target to build and measure an engine here"""


def filled(lines: Iterable[str], indent: str) -> Iterator[str]:
    """Yield each line folded to the width of a terminal, without breaking names and paths."""
    for line in lines:
        yield textwrap.fill(
            plain(line), _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def pick_as_text(picked: Pick, where: Mapping[str, str], model: str = "") -> str:
    """Describe the pick: the cell, why it is the best, its figures and the paths of its files.

    where: the paths, by name. model: whose engine it would be, where none is picked.
    """
    best = picked.best
    if best is None:
        what = plain(f"No engine of {model} to ship" if model else "No engine to ship")
        return "\n".join([f"{what}: {picked.why}.", *_why_not(picked)])
    head = "Ship" if best["origin"] == HERE else "Imported, not built here:"
    return "\n".join([plain(f"{head} {best['cell']}"), fields(_described(best, picked, where))])


def _why_not(picked: Pick) -> Iterator[str]:
    """What is in the way; where that is no constraint, the first reasons."""
    if not picked.obstacles:
        for cell, reason in list(picked.left_out.items())[:_MOST_REASONS]:
            yield plain(f"  {cell}: {reason}")
        return
    for one in picked.obstacles:
        more = f"without it {_engines(one.left)} left" if one.left else _missed(one.missed)
        said = one.reason if one.reason.endswith("?") else f"{one.reason};"
        yield from filled([f"{one.constraint}: {said} {more}"], "  ")
    if not picked.obstacles[0].left:
        yield "  Without any single one of these no engine is left, either."


def _engines(count: int) -> str:
    return f"{count} engines are" if count > 1 else "1 engine is"


def _missed(count: int) -> str:
    return f"{count} cells miss it" if count > 1 else "1 cell misses it"


def _described(best: Row, picked: Pick, where: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The names and values of the description."""
    yield "why", _folded(picked.why)
    for kind in ("box", "mask"):
        if kind == "box" or best["mask_ap"] is not None:
            beside = value_text(best[f"{kind}_ap_reference"], "{:.4f}")
            yield f"{kind} AP", f"{value_text(best[f'{kind}_ap'], '{:.4f}')} (PyTorch {beside})"
    latency = f"p50 {best['latency_p50_ms']:.2f} ms"
    if best["latency_p90_ms"] is not None:
        latency += f", p90 {best['latency_p90_ms']:.2f} ms"
    yield (
        "speed",
        f"{latency}, {best['throughput_per_s']:.1f} images/s on {best['threads']} threads",
    )
    if at_once := _at_once(best):
        yield "", f"(images/s with {at_once})"
    yield "device", str(best["device"])
    if len({row["sweep"] for row in picked.eligible}) > 1:
        yield "sweep", best["sweep"]
    yield from where.items()
    if best["origin"] != HERE:
        yield "origin", best["origin"]
        yield "note", _IMPORTED
    if picked.doubt:
        yield "note", _folded(f"{picked.doubt}; --confident leaves out what is not shown")
    if best["stable"] is False:
        yield "note", "the measurement drifted; on a quieter machine take it again:"
        yield "", "farm run MATRIX --again measure --only unstable"


def _folded(text: str) -> str:
    return textwrap.fill(plain(text), 68, break_long_words=False, break_on_hyphens=False)


def _at_once(best: Row) -> str:
    """How the throughput was measured, where that was not one image after the other."""
    streams, batch = best.get("throughput_streams") or 1, best.get("throughput_batch") or 1
    said = [f"{streams} requests at once"] if streams > 1 else []
    return " and ".join([*said, *([f"batches of {batch}"] if batch > 1 else [])])


@dataclass(frozen=True)
class Answer:
    """The picks for one target.

    sweeps: whose cells were looked at. others: the sweeps that have the target, too. picks, files:
    by model; files have the paths of the picked engine's files by name. pending: how many of the
    cells have not run.
    """

    target: str
    sweeps: tuple[str, ...]
    others: tuple[str, ...]
    picks: Mapping[str, Pick]
    files: Mapping[str, Mapping[str, str]]
    pending: int

    @property
    def found(self) -> bool:
        """Whether there is an engine to ship."""
        return any(one.best for one in self.picks.values())

    def front(self) -> list[Row]:
        """Return the Pareto front over all models.

        A pick stands for the cells that it cannot be told apart from, in speed and AP.
        """
        rows = []
        for one in self.picks.values():
            if one.best:
                best_ap = one.best["box_ap"] or 0
                tied = [id(row) for row in one.ties if (row["box_ap"] or 0) <= best_ap + SAME_AP]
                rows += [row for row in one.eligible if id(row) not in tied]
        return pareto(rows)


def pick_as_json(answer: Answer, model: str) -> dict[str, Any]:
    """Return the pick of a model for programs."""
    picked = answer.picks[model]
    return {
        "target": answer.target,
        "model": model,
        "sweeps": list(answer.sweeps),
        "best": with_outer_names([picked.best])[0] if picked.best else None,
        "why": picked.why,
        "ties": [row["cell"] for row in picked.ties],
        "doubt": picked.doubt,
        "files": dict(answer.files.get(model, {})),
        "left_out": picked.left_out,
        "obstacles": [asdict(one) for one in picked.obstacles],
    }


def answer_as_json(answer: Answer) -> dict[str, Any]:
    """Return the picks of a target for programs, and the front over all of its models."""
    return {
        "target": answer.target,
        "sweeps": list(answer.sweeps),
        "front": with_outer_names(answer.front()),
        "picks": [pick_as_json(answer, model) for model in answer.picks],
    }


def answers_as_text(answers: Sequence[Answer]) -> str:
    """Describe the picks of one or several targets."""
    if len(answers) == 1 and len(answers[0].picks) == 1:
        (answer,) = answers
        ((model, picked),) = answer.picks.items()
        block = pick_as_text(picked, answer.files.get(model, {}))
        return "\n".join([block, *filled(_notes(answer), "")])
    return "\n\n".join(map(_target_as_text, answers))


def _target_as_text(answer: Answer) -> str:
    """A heading, the front over all models, and each model's pick."""
    models = len(answer.picks)
    title = f"Target {answer.target}, {_listed('sweep', answer.sweeps)}: {models} model"
    blocks = ["\n".join([plain(title + ("s" if models > 1 else "")), *filled(_notes(answer), "")])]
    front = answer.front()
    if models > 1 and front:
        eligible = sum(len(one.eligible) for one in answer.picks.values())
        head = f"Pareto front of AP and latency over {eligible} eligible cells of all models:"
        blocks.append(f"{head}\n{_front_table(front)}")
    for model, picked in answer.picks.items():
        blocks.append(pick_as_text(picked, answer.files.get(model, {}), model))
    return "\n\n".join(blocks)


def _notes(answer: Answer) -> Iterator[str]:
    if answer.others:
        yield (
            f"Sweep {answer.sweeps[0]} was written last; {_listed('sweep', answer.others)} also"
            f" {'have' if len(answer.others) > 1 else 'has'} this target (--sweep, --all-sweeps)."
        )
    if answer.pending:
        cells = "1 cell has" if answer.pending == 1 else f"{answer.pending} cells have"
        yield f"{cells} not run yet."


def _listed(what: str, names: Sequence[str]) -> str:
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(names)}"


_FRONT = (
    "model", "runtime", "opset", "shape", "postprocess", "precision", "box_ap", "mask_ap",
    "latency_p50_ms",
)  # fmt: skip


def _front_table(front: Sequence[Row]) -> str:
    rows = with_trade_offs(front)
    columns = [one for one in shown_columns(rows) if one[0] in _FRONT]
    return render_columns(
        rows,
        [*columns, ("x_time", "x time", "{:.2f}"), ("points", "AP points", "{:+.2f}")],
        "table",
    )
