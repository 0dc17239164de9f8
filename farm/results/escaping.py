"""Texts and addresses made safe for other programs: spreadsheets, markdown, logs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, unquote_plus

from farm.terminal import plain

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet computes."""

_MARKUP = re.compile(r"[\\`*\[\]|<>&]|(?<![^\W_])_|_(?![^\W_])|^\s*#")

HIDDEN = "***"

_ADDRESS = re.compile(
    r"(?P<scheme>[^/?#]*://)(?:(?P<user>[^?#]*)@)?(?P<place>[^?#]*)(?P<rest>.*)", re.S
)
"""A password may hold `/` and `@`: everything up to the last `@` is the user's."""

_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def for_csv(value: Any) -> Any:
    """A number as it is; a text on one line, and with `'` before what would be a formula."""
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if value.startswith(_FORMULA) else text


def for_markdown(text: str) -> str:
    """A text on one line that means itself: no markup, no HTML, no end of a table's cell."""
    return _MARKUP.sub(_escaped, plain(text))


def _escaped(match: re.Match[str]) -> str:
    character = match[0].strip()
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(character, f"\\{character}")


def shown(uri: str) -> str:
    """The address without its user, its query and its fragment, each of which may be a secret."""
    found = _ADDRESS.fullmatch(uri)
    if found is None:
        return uri if re.fullmatch(r"[\w./-]*", uri) else HIDDEN
    user = f"{HIDDEN}@" if found["user"] is not None else ""
    rest = f"{found['rest'][0]}{HIDDEN}" if found["rest"] else ""
    return f"{found['scheme']}{user}{found['place']}{rest}"


def without_secrets(text: str, uri: str) -> str:
    """A message of a library, which may quote the address or parts of it."""
    text = text.replace(uri, shown(uri))
    for secret in sorted(set(_secrets(uri)), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets(uri: str) -> Iterator[str]:
    values = [os.environ.get(name, "") for name in _VARIABLES]
    if found := _ADDRESS.fullmatch(uri):
        user = found["user"] or ""
        name, colon, password = user.partition(":")
        values += [user, password if colon else name]
        values += [one.partition("=")[2] for one in re.split("[?#&;]", found["rest"])]
        values += [found["rest"], found["rest"].partition("#")[2]]
    for value in values:
        yield from filter(None, (value, unquote(value), unquote_plus(value)))
