"""Open a store by its address: a folder, or a place in an object store."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from farm.files import cache_folder
from farm.store import Store
from farm.store.cache import CachedStore
from farm.store.objects import is_url

if TYPE_CHECKING:
    from farm.store.objects import Objects

VARIABLE = "FARM_CACHE"
"""Names another folder for what nodes have of object stores."""


def open_store(address: str | Path, cached: bool = False) -> Store:
    """Return the store of an address.

    cached: for a driver, which asks for each record many times; see `CachedStore`.

    Raises:
        InputError: it is an address of no object store, or one that cannot be used.
    """
    if is_url(str(address)):
        from farm.store.remote.node import NodeFolder, most_bytes
        from farm.store.remote.store import RemoteStore

        objects = open_objects(str(address))
        node = NodeFolder(own_folder(str(address)) / "store", most_bytes())
        return RemoteStore(objects, node, with_inputs=not cached)
    return CachedStore(address) if cached else Store(address)


def open_objects(url: str) -> Objects:
    """Return the objects of an address. Raises InputError."""
    from farm.store.remote.opening import opened

    return opened(url)


def own_folder(url: str) -> Path:
    """Return the folder of this machine that holds what it has of an address.

    Raises:
        InputError: the variables that name the service are wrong.
    """
    from farm.store.remote.opening import endpoint

    name = hashlib.sha256(f"{url.rstrip('/')} {endpoint(url)}".encode()).hexdigest()[:16]
    base = os.environ.get(VARIABLE)
    return (Path(base).expanduser() if base else cache_folder() / "remote").resolve() / name
