"""The whole path on a real S3 server: it holds what a folder would, byte for byte, also where it goes away midway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

import tasks.s3_bucket
import tasks.s3_lease
from engines.toy.plan import ToyPlan
from schemas.errors import StoreError
from schemas.references import Stage
from schemas.settings import OnboardSettings
from tasks.store import FolderStore, ObjectStore, open_store
from tasks.toy import write_toy_package
from tests.flows.test_onboard import outputs, run
from tests.s3_server import Proxy, S3Server


@pytest.fixture(scope="module")
def fan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of one machine, with the fewest clips a toy package has."""
    folder = tmp_path_factory.mktemp("toy") / "fan"
    write_toy_package(folder, ToyPlan(machine_types=("fan",), scale=0.001))
    return folder


@pytest.fixture(scope="module")
def whole(fan: Path, tmp_path_factory: pytest.TempPathFactory, settings: OnboardSettings) -> dict[str, bytes]:
    """What a store in a folder holds after the package was onboarded, undisturbed."""
    store = FolderStore(tmp_path_factory.mktemp("whole"))
    run(fan, store, settings)
    return outputs(store)


@pytest.fixture
def proxy(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(tasks.s3_bucket, "_BACKOFF_S", 0.01)
    monkeypatch.setattr(tasks.s3_lease, "LEASE_S", 4.0)
    proxy = Proxy(s3_server.endpoint)
    yield proxy
    proxy.close()


def assert_same(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    assert found.keys() == expected.keys()
    assert [key for key in found if found[key] != expected[key]] == []


def test_a_server_that_goes_away_midway_leaves_no_run_half_filed_and_the_next_ends_as_in_a_folder(
    fan: Path, whole: dict[str, bytes], s3_url: str, s3_server: S3Server, proxy: Proxy, settings: OnboardSettings
) -> None:
    store = open_store(s3_url)
    through = open_store(s3_url.replace(s3_server.endpoint, proxy.endpoint))
    for last in ("/audio/", "/engine.json", "/manifest.json"):
        proxy.is_down, proxy.meddle_in = False, go_away_at(proxy, last)
        with pytest.raises(StoreError, match=proxy.endpoint) as caught:
            run(fan, through, settings)
        assert proxy.is_down
        assert caught.value.exit_code == 5
        assert not any(key.endswith("/manifest.json") for key in store.list_keys())
        assert_nothing_half_filed(store, whole)
    proxy.is_down, proxy.meddle_in = False, bytes
    result = run(fan, through, settings)
    assert_same(outputs(store), whole)
    assert run(fan, store, settings).reused == get_args(Stage)
    assert run(fan, store, settings, dry_run=True).run_id == result.run_id
    assert_same(outputs(store), whole)


def go_away_at(proxy: Proxy, end: str) -> Callable[[bytes], bytes | None]:
    """Lets nothing through any more once an object whose key holds `end` is written."""

    def meddle(piece: bytes) -> bytes | None:
        line = piece.partition(b"\r\n")[0]
        proxy.is_down = proxy.is_down or (line.startswith(b"PUT") and end.encode() in line)
        return None if proxy.is_down else piece

    return meddle


def assert_nothing_half_filed(store: ObjectStore, whole: dict[str, bytes]) -> None:
    """What is there is as it would be in the end, or is known as unfinished by what is not there yet."""
    there = outputs(store)
    assert [key for key, data in there.items() if key in whole and data != whole[key]] == []
    for seal, home in (("quality.json", "packages/"), ("engine.json", "assets/")):
        for key in (key for key in there if key.startswith(home) and key.rpartition("/")[2] == seal):
            below = key.removesuffix(seal)
            needed = [each for each in whole if each.startswith(below) and _is_before(seal, each)]
            assert [each for each in needed if each not in there] == []


def _is_before(seal: str, key: str) -> bool:
    """What is written before a package's or a model's last object is."""
    if seal == "quality.json":
        return True
    return key.endswith((".safetensors", "caveats.json", "normal_scores.parquet"))
