"""Describe a pick as text: the cell, why it is the best, its figures; or what is in the way."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from farm.results.values import value_text
from farm.store.origins import HERE
from farm.terminal import plain
from farm.terminal.tables import fields

if TYPE_CHECKING:
    from farm.results.columns import Row
    from farm.results.picking.select import Pick

_WIDTH = 78


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
        for cell, reason in list(picked.left_out.items())[:10]:
            yield plain(f"  {cell}: {reason}")
        return
    for one in picked.obstacles:
        more = f"without it {_engines(one.left)} left" if one.left else _missed(one.missed)
        said = one.reason if one.reason.endswith("?") else f"{one.reason};"
        yield from filled([f"{one.constraint}: {said} {more}"], "  ")
    if len(picked.obstacles) > 1 and not picked.obstacles[0].left:
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


_IMPORTED = """\
the figures are those of the other machine, where its engine is:
run the cell on this target to build and measure an engine here"""
