"""Show the table of models in the terminal, and write it as docs/models.md."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from farm.catalog import OPSETS, RUNTIMES
from farm.models.families import KINDS, Family
from farm.results.tables.escaping import for_markdown
from farm.runtimes import engine_runtimes

if TYPE_CHECKING:
    from farm.models.records import Record

_MARKS = {"same": "●", "older": "◐", "none": "○", "open": "·"}


def as_text(families: Sequence[Family], records: Sequence[Record]) -> str:
    """Return a line per family: how many trials agree, the worst score difference, the reasons."""
    width = max((len(family.name) for family in families), default=0)
    return "\n".join(
        f"{family.name:<{width}}  {_summary([r for r in records if r.family == family.name])}"
        for family in families
    )


def _summary(records: Sequence[Record]) -> str:
    if not records:
        return "not checked"
    if refused := next((r for r in records if r.refused), None):
        return f"refused: {refused.reason}"
    good = [r for r in records if not r.reason]
    worst = max((r.score_diff for r in good), default=0.0)
    text = f"{len(good)}/{len(records)} same detector, scores within {worst:.0e}"
    if older := sum(not r.current for r in good):
        text += f" ({older} by an older exporter)"
    bad = dict.fromkeys(
        f"opset {r.opset} {r.kind} {r.runtime}: {r.reason}" for r in records if r.reason
    )
    return "\n    ".join([text if good else f"0/{len(records)}", *bad])


def as_markdown(families: Sequence[Family], records: Sequence[Record]) -> str:
    """Return the page: what the marks mean, a row per model, and reasons at the end."""
    by_family = {
        family.name: [r for r in records if r.family == family.name] for family in families
    }
    tried = [family for family in families if by_family[family.name]]
    refused = [f for f in tried if any(r.refused for r in by_family[f.name])]
    shown = [family for family in tried if family not in refused]
    published = [family for family in shown if family.published]
    others = [family for family in shown if not family.published]
    parts = [_head(records, shown)]
    parts.append("## MMDetection's own twelve\n\n" + _table(published, by_family))
    parts.append("## Other families\n\n" + _table(others, by_family))
    if refused:
        parts.append("## Refused before any work\n\n" + _refusals(refused, by_family))
    if changed := [family for family in tried if family.options]:
        parts.append("## With other options than the config's\n\n" + _options(changed))
    if notes := _reasons(shown, by_family):
        parts.append("## What does not hold\n\n" + notes)
    return "\n\n".join(parts) + "\n"


def _head(records: Sequence[Record], shown: Sequence[Family]) -> str:
    dates = sorted({record.date for record in records})
    versions = sorted({(k, v) for record in records for k, v in record.versions.items()})
    packages = ", ".join(f"{name} {version}" for name, version in versions)
    when = " to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else "never"
    made = f"Made by `make models`; don't edit. Checked {when} with {packages}."
    return f"""# Models

{textwrap.fill(made, 100, break_on_hyphens=False)}

Each of the {len(shown)} models below is exported with its own config at full width (options that
differ are listed at the end), with weights by seed that find objects (no training), and held
against MMDetection's own `simple_test` on images of noise: every box that PyTorch scores over 0.3
must have its box (same class, IoU of at least 0.99, score within 0.001), none may be added, and
pasted masks must overlap by 0.99 on average. Files with fixed shapes are run with the traced batch
of 1; files with dynamic axes with batches of 1 and 2, and at two sizes other than the traced one.
{_count_agreeing(shown, records)}

{_MARKS["same"]} the same detector · {_MARKS["older"]} likewise, with an older exporter · \
{_MARKS["none"]} not (reasons at the end) · {_MARKS["open"]} not checked.
{_runtimes()} on a CPU in fp32; in a cell the opsets {OPSETS[0]} to
{OPSETS[-1]} stand one after the other. "score" is the largest difference of a score against
PyTorch, "nodes" the size of the smallest and of the largest graph."""


def _count_agreeing(shown: Sequence[Family], records: Sequence[Record]) -> str:
    own = [r for r in records if r.family in {family.name for family in shown}]
    good = [r for r in own if not r.reason]
    older = sum(not r.current for r in good)
    note = f" {older} of them were tried with an older exporter than today's." if older else ""
    return f"Of {len(own)} trials so far {len(good)} are the same detector.{note}"


def _runtimes() -> str:
    """Return the legend of the columns: the short and the full name of each runtime."""
    names = [
        f"{_short(name)}: {RUNTIMES[name].title or name}" for name in engine_runtimes(on_cpu=True)
    ]
    return f"{', '.join(names)}, {'both' if len(names) == 2 else 'all'}"


def _short(runtime: str) -> str:
    return RUNTIMES[runtime].short or runtime


def _table(families: Sequence[Family], records: dict[str, list[Record]]) -> str:
    columns = [(kind, runtime) for runtime in engine_runtimes(on_cpu=True) for kind in KINDS]
    heads = [f"{_short(runtime)} {kind}" for kind, runtime in columns]
    lines = ["| model | config | " + " | ".join(heads) + " | score | nodes |"]
    lines.append("|---" * (len(heads) + 4) + "|")
    for family in families:
        own = records[family.name]
        cells = [_opsets([r for r in own if (r.kind, r.runtime) == c]) for c in columns]
        worst = max((r.score_diff for r in own if not r.reason), default=None)
        nodes = sorted(r.nodes for r in own if r.nodes)
        size = "-".join(dict.fromkeys(map(str, (nodes[0], nodes[-1])))) if nodes else ""
        score = "" if worst is None else f"{worst:.0e}"
        config = family.config.removesuffix(".py")
        lines.append(f"| {family.name} | `{config}` | {' | '.join(cells)} | {score} | {size} |")
    return "\n".join(lines)


def _opsets(records: Iterable[Record]) -> str:
    found = {record.opset: record for record in records}
    return "".join(_MARKS[_state(found.get(opset))] for opset in OPSETS)


def _state(record: Record | None) -> str:
    if record is None:
        return "open"
    if record.reason:
        return "none"
    return "same" if record.current else "older"


def _options(families: Sequence[Family]) -> str:
    lines = ["| model | `cfg_options` |", "|---|---|"]
    for family in families:
        own = ", ".join(f"`{name}: {_yaml(value)}`" for name, value in family.options.items())
        lines.append(f"| {family.name} | {own} |")
    return "\n".join(lines)


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refusals(families: Sequence[Family], records: dict[str, list[Record]]) -> str:
    lines = ["| model | config | reason |", "|---|---|---|"]
    for family in families:
        reason = next(r.reason for r in records[family.name] if r.refused) or ""
        config = family.config.removesuffix(".py")
        lines.append(f"| {family.name} | `{config}` | {for_markdown(reason)} |")
    return "\n".join(lines)


def _reasons(families: Sequence[Family], records: dict[str, list[Record]]) -> str:
    lines = []
    for family in families:
        grouped: dict[str, list[str]] = {}
        for r in records[family.name]:
            if r.reason:
                grouped.setdefault(r.reason, []).append(f"{r.opset} {r.kind} {_short(r.runtime)}")
        lines += [
            f"- {family.name} ({', '.join(w)}): {for_markdown(reason)}"
            for reason, w in grouped.items()
        ]
    return "\n".join(lines)
