"""Receive a package: give it an id by its content and keep the upload as it came."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import task

from schemas.errors import InputError, PackageError, StoreError, UsageError
from schemas.references import Package
from schemas.rules import visible
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.corrections import any_corrections
from tasks.packages import PackageArchive, open_package
from tasks.runs import finished_runs
from tasks.store import FolderStore, ObjectStore, check_key, open_store


@task(name="Receive the package", task_run_name="Receive {source}")
def receive_package(source: str, customer: str, store: str, settings: OnboardSettings) -> Package:
    """Hash a package and file it under `raw/`, where it is never touched again.

    An archive that cannot be opened at all is filed as well, by a hash of its bytes, and refused after that.

    `source` is a path of this machine (a zip or a folder) or a key of the store (`inbox/acme/first.zip`).

    Raises
    ------
    InputError
        There is nothing at `source`.
    PackageError
        It is no archive, or as a whole beyond a limit; the problem says which.
    UsageError
        The customer's name cannot be used in the store.
    """
    keys.check_customer(customer)
    shelf = open_store(store)
    with _found(source, shelf) as path, _opened(path, customer, shelf, settings) as archive:
        _keep_apart(path, shelf)
        package_id = archive.package_id
        raw_key = keys.raw(customer, package_id)
        known = shelf.exists(raw_key)
        if not known:
            _keep(shelf, raw_key, archive)
        return Package(
            customer=customer,
            package_id=package_id,
            name=_name(path, raw_key, shelf),
            raw_key=raw_key,
            files=len(archive.names),
            bytes=sum(map(archive.size, archive.names)),
            reused=known,
        )


def _name(path: Path, raw_key: str, store: ObjectStore) -> str:
    """What the customer called the package; of the upload as we keep it, what earlier runs know of that."""
    # A name that is no UTF-8 could be written into no page, and an escape would act on a terminal.
    name = visible(os.fsencode(path.name).decode("utf-8", "replace"))
    _, customer, kept = raw_key.split("/")
    if name != kept:
        return name
    package_id = kept.removesuffix(".zip")
    refit = f"{package_id[:8]} (refit after corrections)"
    manifests = (manifest for _, manifest in finished_runs(store, customer, package_id))
    known = {manifest["package"]["name"] for manifest in manifests} - {kept, refit}
    if known:
        # The runs carry no dates: of several names the first by spelling stands, so that it stays the same.
        return str(min(known))
    return refit if any_corrections(store, customer) else name


@contextmanager
def _found(source: str, store: ObjectStore) -> Iterator[Path]:
    nowhere = InputError(f"{source[:200]}: there is no such file or folder, and no such object in {store.url}")
    try:
        path = Path(source).resolve(strict=True)
    except (OSError, ValueError):
        path = None
    if path is not None:
        yield path
        return
    try:
        check_key(source)
    except StoreError:
        raise nowhere from None
    if not store.exists(source):
        raise nowhere
    with store.local_file(source) as copy:
        try:
            yield copy
        except PackageError as error:
            # The copy is gone once anybody reads this.
            raise PackageError(str(error).replace(str(copy), source), error.problems) from error


def _opened(path: Path, customer: str, store: ObjectStore, settings: OnboardSettings) -> PackageArchive:
    """The package at `path`; a file that is none, or too much of one, is kept for whoever looks into it."""
    try:
        return open_package(path, settings.archive)
    except PackageError:
        if path.is_file() and path.stat().st_size <= settings.archive.max_total_bytes:
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            store.put_file(keys.raw(customer, content[:16]), path)
        raise


def _keep_apart(path: Path, store: ObjectStore) -> None:
    """A store inside the package's folder would become part of the package."""
    if isinstance(store, FolderStore) and store.root.is_relative_to(path):
        raise UsageError(f"the store {store.url} lies inside the package {path}; give a --store outside of it")


def _keep(store: ObjectStore, key: str, archive: PackageArchive) -> None:
    """A zip as it came, byte for byte; a folder as a zip."""
    if archive.path.is_file():
        store.put_file(key, archive.path)
        return
    with tempfile.TemporaryDirectory(prefix="alp-") as folder:
        packed = Path(folder) / "package.zip"
        archive.write_zip(packed)
        store.put_file(key, packed)
