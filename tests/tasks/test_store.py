"""The contract every object store keeps, and what the folder store adds."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from pydantic import BaseModel, ConfigDict

from schemas.errors import StoreError, UsageError
from tasks.store import FolderStore, ObjectStore, OverlayStore, open_store, overlay_url, working_store


@pytest.fixture(params=["folder", "overlay"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    return OverlayStore(FolderStore(tmp_path / "above"), FolderStore(tmp_path / "below"), "overlay")


def test_an_object_comes_back_as_it_went(store: ObjectStore) -> None:
    store.put("runs/acme/a1/report.html", b"\x00\xff")
    assert store.get("runs/acme/a1/report.html") == b"\x00\xff"


def test_a_second_write_replaces_the_first(store: ObjectStore) -> None:
    store.put("a/b", b"first")
    store.put("a/b", b"second")
    assert store.get("a/b") == b"second"


def test_size_and_time_of_an_object_are_told_without_reading_it(store: ObjectStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    store.put("a/b", b"four")
    stat = store.stat("a/b")
    assert (stat.bytes, stat.modified.tzinfo) == (4, UTC)
    assert before < stat.modified < datetime.now(UTC) + timedelta(seconds=2)
    with pytest.raises(StoreError, match="a/none"):
        store.stat("a/none")


def test_a_missing_object_is_an_error_that_names_it(store: ObjectStore) -> None:
    assert not store.exists("a/none")
    with pytest.raises(StoreError, match="a/none"):
        store.get("a/none")


@pytest.mark.parametrize("content", [b"{", b'{"low": "none"}', b'{"low": 1, "more": 2}', b"\xff"])
def test_what_this_version_did_not_write_is_a_store_error_with_a_remedy(store: ObjectStore, content: bytes) -> None:
    class Limits(BaseModel):
        model_config = ConfigDict(extra="forbid")

        low: int

    store.put("a/limits.json", content)
    with pytest.raises(StoreError, match=r"a/limits\.json .* onboard a package"):
        store.get_model("a/limits.json", Limits)
    store.put("a/table.parquet", content)
    with pytest.raises(StoreError, match=r"a/table\.parquet is damaged"):
        store.get_frame("a/table.parquet")


def test_keys_are_sorted_and_start_with_the_prefix(store: ObjectStore) -> None:
    for key in ("b/2", "b/10", "a/1", "bb/1"):
        store.put(key, b"")
    assert list(store.list_keys("b/")) == ["b/10", "b/2"]
    assert list(store.list_keys("b")) == ["b/10", "b/2", "bb/1"]
    assert list(store.list_keys()) == ["a/1", "b/10", "b/2", "bb/1"]


def test_removing_what_is_not_there_is_no_error(store: ObjectStore) -> None:
    store.put("a", b"x")
    store.delete("a")
    store.delete("a")
    assert not store.exists("a")


@pytest.mark.parametrize("key", ["../out", "/etc/passwd", "a//b", "a/../b", ".hidden", "a\\b", "a b", "", "a/", "소리"])
def test_a_key_that_could_leave_the_store_is_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(StoreError, match="no key"):
        store.put(key, b"x")


def test_tables_and_files_round_trip(store: ObjectStore, tmp_path: Path) -> None:
    frame = pd.DataFrame({"clip_id": ["a", "소리"], "score": [0.1, None]})
    store.put_frame("t.parquet", frame)
    pd.testing.assert_frame_equal(store.get_frame("t.parquet"), frame)
    source = tmp_path / "file.bin"
    source.write_bytes(b"data")
    store.put_file("f.bin", source)
    with store.local_file("f.bin") as path:
        assert path.read_bytes() == b"data"


def test_a_local_folder_holds_the_objects_below_and_their_folders(store: ObjectStore) -> None:
    for key in ("m/v1/engine.json", "m/v1/memory.safetensors", "m/v1/deep/er", "m/v10/engine.json"):
        store.put(key, key.encode())
    with store.local_folder("m/v1") as folder:
        found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert found == ["deep/er", "engine.json", "memory.safetensors"]


def test_a_write_that_fails_leaves_the_old_object_and_no_litter(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("a/b", b"old")
    with pytest.raises(StoreError, match="cannot be written"):
        store.put_file("a/b", tmp_path / "absent")
    assert store.get("a/b") == b"old"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_what_a_killed_writer_left_is_no_object(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("a/b", b"x")
    (tmp_path / "a" / ".writing-123").write_bytes(b"half")
    assert list(store.list_keys()) == ["a/b"]


def test_a_dry_run_sees_the_store_and_never_touches_it(tmp_path: Path) -> None:
    below = FolderStore(tmp_path / "real")
    below.put("a", b"below")
    with working_store(below.url, dry_run=True) as url:
        glass = open_store(url)
        assert glass.get("a") == b"below"
        glass.put("a", b"above")
        glass.put("b", b"new")
        assert glass.get("a") == b"above"
        with pytest.raises(StoreError, match="dry run"):
            glass.delete("a")
    assert list(below.list_keys()) == ["a"]
    assert below.get("a") == b"below"


def test_an_overlay_url_leads_back_to_its_folder(tmp_path: Path) -> None:
    url = overlay_url(f"file://{tmp_path}/real", tmp_path / "glass")
    open_store(url).put("a", b"x")
    assert (tmp_path / "glass" / "a").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["a#b", "a%20b", "q?x", "소리 창고", "a+b"])
def test_any_folder_is_found_again_by_its_url(tmp_path: Path, name: str) -> None:
    store = FolderStore(tmp_path / name)
    store.put("k", b"x")
    assert (tmp_path / name / "k").is_file()
    assert open_store(store.url).get("k") == b"x"
    assert open_store(overlay_url(store.url, tmp_path / f"glass {name}")).get("k") == b"x"


@pytest.mark.parametrize("key", ["inbox/acme/첫 번째.zip", "recordings/acme/fan-1/a b (2).wav"])
def test_what_a_plant_drops_may_have_any_name(store: ObjectStore, key: str) -> None:
    store.put(key, b"x")
    assert list(store.list_keys("")) == [key]
    assert store.get(key) == b"x"


@pytest.mark.parametrize("key", ["inbox/../x", "inbox/acme/.hidden", "inbox//x", "inbox/a\\b", "inbox/a\nb"])
def test_but_not_a_name_that_leads_out(store: ObjectStore, key: str) -> None:
    with pytest.raises(StoreError, match="no key"):
        store.get(key)


def test_a_lock_keeps_a_second_writer_waiting(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with FolderStore(tmp_path).lock("assets/ledger"):
            order.append("second")

    other = threading.Thread(target=second)
    with FolderStore(tmp_path).lock("assets/ledger"):
        other.start()
        other.join(0.2)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize("url", ["ftp://host/x", "file://", "alp-data", "", "file://etc/x", "file://[x", "file:///a#b"])
def test_a_url_of_no_known_kind_says_what_to_write(url: str) -> None:
    with pytest.raises(UsageError, match="file:///path"):
        open_store(url)


def test_a_relative_url_is_relative_to_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("file://./alp-data").put("a", b"x")
    assert (tmp_path / "alp-data" / "a").is_file()
