"""Whatever comes is kept as it came, a package or not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from schemas.errors import InputError, PackageError
from schemas.settings import ArchiveLimits, OnboardSettings
from tasks.intake import receive_package
from tasks.packages import open_package
from tasks.store import FolderStore, open_store


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_a_file_that_is_no_package_is_kept_and_refused(tmp_path: Path, store: FolderStore) -> None:
    content = b"Rar!" + bytes(500)
    (tmp_path / "p.zip").write_bytes(content)

    with pytest.raises(PackageError) as caught:
        receive_package.fn(str(tmp_path / "p.zip"), "acme", store.url, OnboardSettings())
    assert [problem.rule for problem in caught.value.problems] == ["archive.unreadable"]
    key = f"raw/acme/{hashlib.sha256(content).hexdigest()[:16]}.zip"
    assert list(store.list_keys()) == [key]
    assert store.get(key) == content


def test_a_file_larger_than_any_package_is_refused_and_not_copied(tmp_path: Path, store: FolderStore) -> None:
    (tmp_path / "p.zip").write_bytes(bytes(500))
    settings = OnboardSettings(archive=ArchiveLimits(max_total_bytes=499))

    with pytest.raises(PackageError):
        receive_package.fn(str(tmp_path / "p.zip"), "acme", store.url, settings)
    assert list(store.list_keys()) == []


def test_nothing_at_all_is_refused_and_leaves_nothing(tmp_path: Path, store: FolderStore) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        receive_package.fn(str(tmp_path / "p.zip"), "acme", store.url, OnboardSettings())
    assert list(store.list_keys()) == []


def test_what_lies_in_a_bucket_is_called_by_its_key_there(s3_url: str) -> None:
    bucket = open_store(s3_url)
    bucket.put("inbox/acme/4월.zip", b"no zip")
    with pytest.raises(PackageError, match=r"^inbox/acme/4월\.zip: ") as caught:
        receive_package.fn("inbox/acme/4월.zip", "acme", bucket.url, OnboardSettings())
    assert [problem.file for problem in caught.value.problems] == ["4월.zip"]


def test_what_was_refused_of_a_folder_is_refused_of_what_was_kept(tmp_path: Path, store: FolderStore) -> None:
    (tmp_path / "p" / "audio").mkdir(parents=True)
    (tmp_path / "p" / "metadata.csv").write_bytes(b"relative_path\naudio/a.wav\n")
    (tmp_path / "p" / "audio" / "a.wav").symlink_to("/etc/hostname")

    package = receive_package.fn(str(tmp_path / "p"), "acme", store.url, OnboardSettings())

    with store.local_file(package.raw_key) as path, open_package(path) as kept:
        assert [(problem.rule, problem.file) for problem in kept.problems] == [("archive.link", "audio/a.wav")]
        assert kept.package_id == package.package_id
