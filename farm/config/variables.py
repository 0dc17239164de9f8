"""`${NAME}` and `${NAME:-default}`: unchanged while YAML is read, then filled in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from farm.errors import InputError, shown, together

Key = tuple[str | int, ...]

LONGEST_TEXT = 10_000

_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^{}]*))?\}")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Characters for private use, which no file may hold itself, in place of `${`, `:-` and `}`.
SHIELDS = "\ue000\ue001\ue002"


def shield(text: str) -> str:
    """Replace the marks of variables by characters that YAML accepts anywhere, also in `{...}`."""

    def shielded(match: re.Match[str]) -> str:
        return "\ue000" + match[0][2:-1].replace(":-", "\ue001") + "\ue002"

    return _VARIABLE.sub(shielded, text)


def unshield(text: str) -> str:
    """Undo `shield`."""
    return text.replace("\ue000", "${").replace("\ue001", ":-").replace("\ue002", "}")


def not_plain(text: str) -> str:
    """Return why a value cannot be this text; empty where it can."""
    if len(text) > LONGEST_TEXT:
        return f"is longer than {LONGEST_TEXT} characters"
    found = _CONTROL.search(text)
    return f"has the control character U+{ord(found[0]):04X}" if found else ""


def fill(values: Any, env: Mapping[str, str], where: Callable[[Key], str]) -> Any:
    """Return `values` with every variable in their texts replaced.

    Raises:
        InputError: names all variables that are not set, malformed, or hold control characters.
    """
    errors: list[InputError] = []

    def filled(value: Any, key: Key) -> Any:
        if isinstance(value, dict):
            return {name: filled(item, (*key, name)) for name, item in value.items()}
        if isinstance(value, list):
            return [filled(item, (*key, i)) for i, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        wrong = list(_wrong(value, env))
        errors.extend(InputError(message, where(key)) for message in wrong)
        return value if wrong else _VARIABLE.sub(lambda match: _value(match, env), value)

    result = filled(values, ())
    if errors:
        raise together(errors)
    return result


def _value(match: re.Match[str], env: Mapping[str, str]) -> str:
    return env.get(match[1], match[2] or "")


def _wrong(text: str, env: Mapping[str, str]) -> Iterator[str]:
    if "${" in _VARIABLE.sub("", text):
        yield f"{shown(text)}: a variable is written ${{NAME}} or ${{NAME:-default}}"
    for match in _VARIABLE.finditer(text):
        name = match[1]
        if name not in env and match[2] is None:
            yield (
                f"the environment variable {name[:80]} is not set; set it "
                f"(export {name[:80]}=...) or write ${{{name[:80]}:-default}}"
            )
        elif reason := not_plain(env.get(name, "")):
            yield f"the environment variable {name} {reason}"
