"""What a pack holds as artifacts of this machine's store."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from farm.acceptance import contents, signs
from farm.acceptance.contents import Pack
from farm.errors import InputError
from farm.plan.placement import cores
from farm.specs import Ref
from farm.store import Store


def restore(pack: Pack, folder: Path, store: Store) -> int:
    """Returns how many artifacts were not there before. Raises InputError for a torn pack."""
    refs = dict.fromkeys(ref for cell in pack.cells for ref in cell.refs)
    left = [ref for ref in refs if store.record(ref) is None]
    with ThreadPoolExecutor(min(8, cores())) as threads:
        for _ in threads.map(lambda ref: _restore(ref, folder, store), left):
            pass
    return len(left)


def _restore(ref: Ref, folder: Path, store: Store) -> None:
    source = Store(folder / contents.STORE).path(ref)
    work = store.work_folder(ref.key)
    try:
        for path in sorted(source.rglob("*")):
            place = work / path.relative_to(source)
            if path.is_dir():
                place.mkdir(exist_ok=True)
            elif path.name.endswith(signs.PARTS):
                name = path.name.removesuffix(signs.PARTS)
                signs.put_together(
                    path.with_name(name), folder / contents.BLOCKS, place.with_name(name)
                )
            elif not path.name.endswith(signs.REST):
                _link(path, place)
    except (OSError, ValueError, KeyError, TypeError) as error:
        shutil.rmtree(work, ignore_errors=True)
        raise InputError(f"torn: {ref.stage} {ref.key[:12]}: {error}", str(folder)) from None
    final = store.path(ref)
    shutil.rmtree(final, ignore_errors=True)
    final.parent.mkdir(parents=True, exist_ok=True)
    work.rename(final)
    if store.record(ref) is None:
        raise InputError(f"torn: {ref.stage} {ref.key[:12]} is not whole", str(folder))


def _link(source: Path, place: Path) -> None:
    try:
        os.link(source, place)
    except OSError:  # another file system
        shutil.copyfile(source, place)
