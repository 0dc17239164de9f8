"""Tell what was picked for each target and model: as text, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from farm.results.names import with_outer_names
from farm.results.picking.front import pareto, with_trade_offs
from farm.results.picking.texts import filled, pick_as_text
from farm.results.picking.ties import SAME_AP
from farm.results.shown import shown_columns
from farm.results.tables import render_columns
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.results.columns import Row
    from farm.results.picking.select import Pick


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
    pending: int = 0

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
