"""Tell what was picked: as text, and as JSON for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from farm.results.picking.front import pareto, with_trade_offs
from farm.results.tables import render_columns, shown_columns, value_text
from farm.store.origins import HERE
from farm.terminal import plain
from farm.terminal.tables import fields

if TYPE_CHECKING:
    from farm.results.columns import Row
    from farm.results.picking.select import Pick

_WIDTH = 78


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

        A pick stands for the cells that it cannot be told apart from.
        """
        rows = []
        for one in self.picks.values():
            tied = {row["cell"] for row in one.ties}
            rows += [row for row in one.eligible if one.best and row["cell"] not in tied]
        return pareto(rows)


def pick_as_json(answer: Answer, model: str) -> dict[str, Any]:
    """Return the pick of a model for programs."""
    picked = answer.picks[model]
    return {
        "target": answer.target,
        "model": model,
        "sweeps": list(answer.sweeps),
        "best": picked.best,
        "why": picked.why,
        "ties": [row["cell"] for row in picked.ties],
        "files": dict(answer.files.get(model, {})),
        "left_out": picked.left_out,
        "obstacles": [asdict(one) for one in picked.obstacles],
    }


def answer_as_json(answer: Answer) -> dict[str, Any]:
    """Return the picks of a target for programs, and the front over all of its models."""
    return {
        "target": answer.target,
        "sweeps": list(answer.sweeps),
        "front": answer.front(),
        "picks": [pick_as_json(answer, model) for model in answer.picks],
    }


def answers_as_text(answers: Sequence[Answer]) -> str:
    """Describe the picks of one or several targets."""
    if len(answers) == 1 and len(answers[0].picks) == 1:
        (answer,) = answers
        ((model, picked),) = answer.picks.items()
        block = pick_as_text(picked, answer.files.get(model, {}))
        return "\n".join([block, *_filled(_notes(answer), "")])
    return "\n\n".join(map(_target_as_text, answers))


def _target_as_text(answer: Answer) -> str:
    """A heading, the front over all models, and each model's pick."""
    models = len(answer.picks)
    title = f"Target {answer.target}, {_listed('sweep', answer.sweeps)}: {models} model"
    blocks = ["\n".join([plain(title + ("s" if models > 1 else "")), *_filled(_notes(answer), "")])]
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
        for cell, reason in list(picked.left_out.items())[:10]:
            yield plain(f"  {cell}: {reason}")
        return
    for one in picked.obstacles:
        more = f"without it {_engines(one.left)} left" if one.left else _missed(one.missed)
        said = one.reason if one.reason.endswith("?") else f"{one.reason};"
        yield from _filled([f"{one.constraint}: {said} {more}"], "  ")
    if len(picked.obstacles) > 1 and not picked.obstacles[0].left:
        yield "  Without any single one of these no engine is left, either."


def _engines(count: int) -> str:
    return f"{count} engines are" if count > 1 else "1 engine is"


def _missed(count: int) -> str:
    return f"{count} cells miss it" if count > 1 else "1 cell misses it"


def _filled(lines: Iterator[str] | Sequence[str], indent: str) -> Iterator[str]:
    for line in lines:
        yield textwrap.fill(
            plain(line), _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def _described(best: Row, picked: Pick, where: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The names and values of the description."""
    yield (
        "why",
        textwrap.fill(plain(picked.why), 68, break_long_words=False, break_on_hyphens=False),
    )
    for kind in ("box", "mask"):
        if kind == "box" or best["mask_ap"] is not None:
            beside = value_text(best[f"{kind}_ap_reference"], "{:.4f}")
            yield f"{kind} AP", f"{value_text(best[f'{kind}_ap'], '{:.4f}')} (PyTorch {beside})"
    yield (
        "speed",
        f"p50 {best['latency_p50_ms']:.2f} ms, "
        f"p90 {value_text(best['latency_p90_ms'], '{:.2f}')} ms, "
        f"{best['throughput_per_s']:.1f} images/s on {best['threads']} threads",
    )
    yield "device", str(best["device"])
    if len({row["sweep"] for row in picked.eligible}) > 1:
        yield "sweep", best["sweep"]
    yield from where.items()
    if best["origin"] != HERE:
        yield "origin", best["origin"]
        yield "note", _IMPORTED
    if best["stable"] is False:
        yield "note", "the measurement drifted; measure again on a quieter machine"


_IMPORTED = """\
the figures are those of the other machine, where its engine is:
run the cell on this target to build and measure an engine here"""
