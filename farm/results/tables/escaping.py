"""Make texts and addresses safe for spreadsheets, markdown and logs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, unquote_plus

from farm.terminal import plain

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The first characters of texts that a spreadsheet would evaluate."""

_MARKUP = re.compile(r"[\\`*\[\]|<>&]|(?<![^\W_])_|_(?![^\W_])|^\s*#")

HIDDEN = "***"

_ADDRESS = re.compile(
    r"(?P<scheme>[^/?#]*://)(?:(?P<user>[^?#]*)@)?(?P<path>[^?#]*)(?P<rest>.*)", re.S
)
"""A password may hold `/` and `@`: everything up to the last `@` is the user's."""

_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def for_csv(value: Any) -> Any:
    """Return a text on one line, with `'` before a formula; other values stay as they are."""
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if value.startswith(_FORMULA) else text


def for_markdown(text: str) -> str:
    """Return a text on one line in which markup, HTML and cell separators are escaped."""
    return _MARKUP.sub(_escaped, plain(text))


def _escaped(match: re.Match[str]) -> str:
    character = match[0].strip()
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(character, f"\\{character}")


def shown(uri: str) -> str:
    """Return an address without user, query and fragment, each of which may be a secret."""
    found = _ADDRESS.fullmatch(uri)
    if found is None:
        return uri if re.fullmatch(r"[\w./-]*", uri) else HIDDEN
    user = f"{HIDDEN}@" if found["user"] is not None else ""
    rest = f"{found['rest'][0]}{HIDDEN}" if found["rest"] else ""
    return f"{found['scheme']}{user}{found['path']}{rest}"


def without_secrets(text: str, uri: str) -> str:
    """Return a library's message without the secrets of the address, which it may quote."""
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
