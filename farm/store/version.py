"""The version of a store's layout and of its records, so that no other farm takes them for torn.

A record with a field that a farm does not know is no record to it, and would be made anew. So a
farm whose records or layout others cannot read raises VERSION, and refuses stores of higher ones.
"""

from __future__ import annotations

import json

from farm.errors import InputError
from farm.files import jsonfile
from farm.store.objects import Objects

NAME = "format.json"

VERSION = 1
"""Of all stores so far, also of those without the file."""


def as_json() -> bytes:
    """Return the content of the file."""
    return json.dumps({"version": VERSION}).encode()


def require(objects: Objects) -> bool:
    """Require a store to be of a version that this farm reads; return whether it states one.

    Raises:
        InputError: it is of a higher version, or the file is damaged.
        OSError: the file cannot be read, for another reason than that it is not there.
    """
    try:
        content = objects.get(NAME)
    except FileNotFoundError:
        return False
    try:
        version = jsonfile.parse(content)["version"]
    except (ValueError, TypeError, KeyError):
        version = None
    if type(version) is not int or version < 1:
        raise InputError(f"{NAME} states no version of a store; give other --results", objects.url)
    if version > VERSION:
        raise InputError(
            f"a store of a newer farm (version {version}; this one reads up to {VERSION}): update"
            " this farm, or give other --results",
            objects.url,
        )
    return True
