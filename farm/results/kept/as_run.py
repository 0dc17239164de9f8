"""The matrix of a sweep as it was run, as a matrix file that all may read: its overrides are in it,
but for those that may be secrets."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from farm.terminal import plain

_HEADING = """\
# The matrix of the sweep {sweep} as it was run, from {path}.
# `farm run` of this file, wherever it lies, is the same sweep; relative paths start from `folder`.
"""

_NO_FOLDER = """\
# `folder` is left out: its name has `${{`, which would be read as a variable. Put this file there:
# {folder}
"""

_OVERRIDES = "#\n# Overrides, which are in the matrix below:\n"

_HIDDEN = """\
# Those that may be secrets are variables here. Set these, or write the values in their place:
"""

_FREE = "cfg_options"
"""Below this stand keys of the user's config, which can be anything."""

_LONGEST_LINE = 100

_NAMES = re.compile(
    r"token|passw|secret|credential|(?:api|access|private|^|[^a-z])keys?(?![a-z])", re.IGNORECASE
)
_WITH_USER = re.compile(r"://.*@", re.DOTALL)
_UNFILLED = re.compile(r"\$\{\w+\}")

_Key = tuple[str, ...]


def as_run(sweep: str, kept: Mapping[str, Any]) -> str | None:
    """Return the matrix as it was run, as a matrix file that has the same plan; None where that is
    not known.

    Its overrides stand in it, and as comments under a heading of their own. Variables are not
    filled in, and what an override has set is a variable, too, where it may be a secret: below
    keys that are named after one, texts below `cfg_options`, addresses with a user.

    kept: what `matrices.keep_matrix` has written.
    """
    import yaml

    values, path = kept.get("values"), kept.get("matrix")
    if not isinstance(values, dict) or not isinstance(path, str):
        return None
    overridden = _keys(kept.get("overridden"))
    hidden = dict[str, None]()
    values = _shown(values, (), frozenset(overridden), hidden)
    folder = str(kept.get("folder", Path(path).parent))
    named = "${" not in folder  # the loader knows no escape
    values = {key: one for key, one in values.items() if key != "folder"}
    text = yaml.safe_dump(
        {**values, "folder": folder} if named else values,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,  # lists of plain values in one line, as people write them
        width=_LONGEST_LINE,
    )
    comments = [_HEADING.format(sweep=sweep, path=plain(path))]
    if not named:
        comments.append(_NO_FOLDER.format(folder=plain(folder)))
    if overrides := [f"#   {one}\n" for one in _overrides(values, overridden)]:
        comments += [_OVERRIDES, *overrides]
    if hidden:
        comments += [_HIDDEN, *(f"#   {variable}\n" for variable in hidden)]
    return "".join([*comments, "\n", text])


def _keys(overridden: Any) -> list[_Key]:
    """The paths of keys that overrides have set."""
    keys = overridden if isinstance(overridden, list) else []
    return [tuple(map(str, key)) for key in keys if isinstance(key, list) and key]


def _shown(
    value: Any, key: _Key, overridden: Container[_Key], hidden: dict[str, None], own: bool = False
) -> Any:
    """The value at a path of keys, with variables in place of what may be secrets.

    hidden: gets the names of these variables. own: an override has set the value.
    """
    own = own or key in overridden
    if isinstance(value, dict):
        return {
            name: _shown(one, (*key, str(name)), overridden, hidden, own)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_shown(one, (*key, str(i)), overridden, hidden, own) for i, one in enumerate(value)]
    if not own or not _may_be_secret(value, key):
        return value
    variable = re.sub(r"\W", "_", "_".join(key)).upper()
    hidden[variable] = None
    return f"${{{variable}}}"


def _may_be_secret(value: Any, key: _Key) -> bool:
    if value is None or isinstance(value, bool):
        return False
    if isinstance(value, str) and (not value or _UNFILLED.fullmatch(value)):
        return False
    if any(map(_NAMES.search, key)):
        return True
    return isinstance(value, str) and (_FREE in key or bool(_WITH_USER.search(value)))


def _overrides(values: Mapping[str, Any], keys: Sequence[_Key]) -> Iterator[str]:
    """The overrides as on a command line."""
    for key in keys:
        value: Any = values
        with suppress(KeyError, TypeError):
            for part in key:
                value = value[part]
            yield shlex.quote(f"{'.'.join(key)}={json.dumps(value)}")
