"""Receive a package: give it an id by its content and keep the upload as it came."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import task

from schemas.errors import InputError
from schemas.references import Package
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.packages import PackageArchive, open_package
from tasks.store import ObjectStore, check_key, open_store


@task(name="Receive the package", task_run_name="Receive {source}")
def receive_package(source: str, customer: str, store: str, settings: OnboardSettings) -> Package:
    """Hash a package and file it under `raw/`, where it is never touched again.

    `source` is a path of this machine (a zip or a folder) or a key of the store (`inbox/acme/first.zip`).

    Raises
    ------
    InputError
        There is nothing at `source`, or it is no archive.
    UsageError
        The customer's name cannot be used in the store.
    """
    keys.check_customer(customer)
    shelf = open_store(store)
    with _found(source, shelf) as path, open_package(path, settings.archive) as archive:
        package_id = archive.package_id
        raw_key = keys.raw(customer, package_id)
        known = shelf.exists(raw_key)
        if not known:
            _keep(shelf, raw_key, archive)
        return Package(
            customer=customer,
            package_id=package_id,
            name=path.name,
            raw_key=raw_key,
            files=len(archive.names),
            bytes=sum(map(archive.size, archive.names)),
            reused=known,
        )


@contextmanager
def _found(source: str, store: ObjectStore) -> Iterator[Path]:
    path = Path(source)
    if path.exists():
        yield path.resolve()
        return
    try:
        is_object = store.exists(check_key(source))
    except Exception as error:
        raise InputError(f"{source}: there is no such file or folder") from error
    if not is_object:
        raise InputError(f"{source}: there is no such file or folder, and no such object in {store.url}")
    with store.local_file(source) as copy:
        yield copy


def _keep(store: ObjectStore, key: str, archive: PackageArchive) -> None:
    """A zip as it came, byte for byte; a folder as a zip."""
    if archive.path.is_file():
        store.put_file(key, archive.path)
        return
    with tempfile.TemporaryDirectory(prefix="alp-") as folder:
        packed = Path(folder) / "package.zip"
        archive.write_zip(packed)
        store.put_file(key, packed)
