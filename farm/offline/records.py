"""Write records to a file for another machine, without large files, and import such a file.

sweep.json                               the `Manifest`: cells, the key of each step, thresholds
store/<stage>/<2 digits>/<key>/...       records with the small files that results need
store/failed/<key>.json                  failures that would repeat themselves
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from farm import atomic
from farm.offline.manifest import NAME, Manifest
from farm.offline.reading import KEPT, digests
from farm.specs import Ref
from farm.store import Record, Store, imports


def save(sweep: Manifest, store: Store, archive: Path) -> None:
    """Write the records of the sweep as one .tar.gz. Raises OSError."""
    members = dict(_members(sweep, store))
    sweep = replace(sweep, digests={name: _digest(data) for name, data in members.items()})
    text = json.dumps(asdict(sweep), indent=1)
    with atomic.replacing(archive) as part, tarfile.open(part, "w:gz") as tar:
        for name, data in {NAME: text.encode(), **members}.items():
            _add(tar, name, data)


def _members(sweep: Manifest, store: Store) -> Iterator[tuple[str, bytes]]:
    others = [one.store for one in imports.imports(store)]
    for ref in sweep.refs:
        failure = None if store.any_record(ref) else store.failure(ref.key)
        if failure:
            text = json.dumps(asdict(failure), indent=1)
            yield f"store/failed/{ref.key}.json", text.encode()
            continue
        for holder in (store, *others):
            if record := holder.any_record(ref):
                yield from small_files(record, holder.path(ref))
                break


def small_files(record: Record, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the files that are packed of a record.

    These are the record, without the name of its machine, and the files in `KEPT`.
    """
    keep = {name for name in record.files if name in KEPT.get(record.stage, ())}
    packed = replace(
        record,
        files={name: size for name, size in record.files.items() if name in keep},
        left_out={name: size for name, size in record.files.items() if name not in keep}
        | record.left_out,
        node={name: value for name, value in record.node.items() if name != "host"},
    )
    prefix = f"store/{record.stage}/{record.key[:2]}/{record.key}"
    text = json.dumps(asdict(packed), indent=1, sort_keys=True)
    yield f"{prefix}/record.json", text.encode()
    for name in sorted(keep):
        yield f"{prefix}/{name}", (folder / name).read_bytes()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


def import_records(sweep: Manifest, folder: Path, store: Store, name: str = "records") -> int:
    """Copy a folder that `read_records` has checked into the store, apart from its own records.

    name: of the archive or folder, as people know it. Returns the number of records that no earlier
    import has.
    """
    own, others = Store(folder / "store"), [one.store for one in imports.imports(store)]
    new = [ref for ref in sweep.refs if _has(own, ref) and not any(_has(o, ref) for o in others)]
    target = imports.place(store, import_digest(folder))
    if not target.is_dir():
        work = store.work_folder("import")
        for path in sorted((folder / "store").iterdir()):
            shutil.copytree(path, work / path.name)
        imports.write_origin(name, target.name, work)
        target.parent.mkdir(exist_ok=True)
        work.rename(target)
    imports.write_origin(name, target.name, target)
    return len(new)


def import_digest(folder: Path) -> str:
    """Return the sha256 of the names and contents of all files of a folder of records."""
    found = {**digests(folder), NAME: _digest((folder / NAME).read_bytes())}
    return _digest(json.dumps(found, sort_keys=True).encode())


def _has(store: Store, ref: Ref) -> bool:
    return store.any_record(ref) is not None or store.failure(ref.key) is not None
