"""Making a bucket ready, and trying out whether a store can do what ALP asks of one."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from minio.commonconfig import ENABLED, Filter
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

from schemas.errors import StoreError
from tasks.s3_setup import init_bucket
from tasks.s3_store import S3Store
from tasks.store import FolderStore, open_store
from tasks.store_setup import check_store, init_store
from tests.s3_server import Proxy, S3Server


@pytest.fixture
def fresh(s3_server: S3Server) -> S3Store:
    """A store in a bucket that nobody has made."""
    return S3Store.open(s3_server.url(f"fresh-{uuid.uuid4().hex[:8]}"))


def test_a_bucket_is_made_with_versions_and_rules_and_the_second_time_left_as_it_is(fresh: S3Store) -> None:
    assert [step.outcome for step in init_bucket(fresh)] == ["made"] * 3
    fresh.put("a/b", b"first")
    assert [step.outcome for step in init_bucket(fresh)] == ["there"] * 3
    assert fresh.get("a/b") == b"first"
    config = fresh.bucket.sdk.get_bucket_lifecycle(fresh.address.bucket)
    assert config is not None
    prefixes = {rule.rule_id: rule.rule_filter.prefix for rule in config.rules if rule.rule_filter}
    assert prefixes == {"alp-embeddings": "embeddings/", "alp-locks": ".locks/", "alp-old-versions": ""}


def test_two_stores_in_one_bucket_have_rules_of_their_own_each(fresh: S3Store, s3_server: S3Server) -> None:
    bucket = fresh.address.bucket
    first, second = (S3Store.open(s3_server.url(bucket, name)) for name in ("one", "two"))
    init_bucket(first)
    assert [step.outcome for step in init_bucket(second)] == ["there", "there", "made"]
    assert [step.outcome for step in init_bucket(first)] == ["there"] * 3
    config = fresh.bucket.sdk.get_bucket_lifecycle(bucket)
    assert config is not None
    assert len(config.rules) == 6


def test_stores_of_like_prefixes_do_not_take_each_other_s_rules_for_theirs(fresh: S3Store, s3_server: S3Server) -> None:
    for prefix in ("a-b", "a/b"):
        store = S3Store.open(s3_server.url(fresh.address.bucket, prefix))
        assert init_bucket(store)[-1].outcome == "made"


def test_a_rule_that_somebody_has_changed_stays_and_is_told(fresh: S3Store) -> None:
    init_bucket(fresh)
    sdk, bucket = fresh.bucket.sdk, fresh.address.bucket
    config = sdk.get_bucket_lifecycle(bucket)
    assert config is not None
    changed = [
        Rule(ENABLED, rule_filter=rule.rule_filter, rule_id=rule.rule_id, expiration=Expiration(days=90))
        if rule.rule_id == "alp-embeddings"
        else rule
        for rule in config.rules
    ]
    sdk.set_bucket_lifecycle(bucket, LifecycleConfig(changed))
    step = init_bucket(fresh)[-1]
    assert step.outcome == "there"
    assert "somebody has set alp-embeddings otherwise" in step.detail
    config = sdk.get_bucket_lifecycle(bucket)
    assert config is not None
    assert {rule.rule_id: rule.expiration and rule.expiration.days for rule in config.rules}["alp-embeddings"] == 90


@pytest.mark.parametrize("code", ["NotImplemented", "AccessDenied"])
def test_a_server_that_keeps_no_versions_and_forgets_nothing_serves_and_says_so(
    s3_url: str, s3_server: S3Server, code: str
) -> None:
    proxy = Proxy(s3_server.endpoint)
    page = f"<Error><Code>{code}</Code><Message>Not here</Message></Error>".encode()
    status = b"501 Not Implemented" if code == "NotImplemented" else b"403 Forbidden"
    refusal = b"HTTP/1.1 %b\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % (status, len(page)) + page

    def refuse(piece: bytes) -> bytes:
        asked = piece.partition(b"\r\n")[0]
        refused = b"?versioning" in asked or b"?lifecycle" in asked
        proxy.meddle_out = (lambda _: refusal) if refused else bytes
        return piece

    proxy.meddle_in = refuse
    steps = init_bucket(S3Store.open(s3_url.replace(s3_server.endpoint, proxy.endpoint)))
    proxy.close()
    assert [step.outcome for step in steps] == ["there", "cannot", "cannot"]
    assert all(f"the server refuses it ({code}" in step.detail for step in steps[1:])


def test_rules_that_somebody_else_has_set_stay(fresh: S3Store) -> None:
    sdk, bucket = fresh.bucket.sdk, fresh.address.bucket
    sdk.make_bucket(bucket)
    own = Rule(ENABLED, rule_filter=Filter(prefix="logs/"), rule_id="theirs", expiration=Expiration(days=3))
    sdk.set_bucket_lifecycle(bucket, LifecycleConfig([own]))
    step = init_bucket(fresh)[-1]
    assert (step.what, step.outcome) == ("lifecycle", "cannot")
    assert "theirs" in step.detail
    config = sdk.get_bucket_lifecycle(bucket)
    assert config is not None
    assert [rule.rule_id for rule in config.rules] == ["theirs"]


def test_a_store_that_can_all_leaves_nothing_of_the_trial(s3_url: str, tmp_path: Path) -> None:
    for url in (s3_url, FolderStore(tmp_path).url):
        store = open_store(url)
        assert len(list(check_store(store))) == 5
        assert list(store.list_keys()) == []


def test_a_folder_is_made_and_the_second_time_left_as_it_is(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "a" / "b")
    assert [step.outcome for step in init_store(store)] == ["made"]
    store.put("a", b"x")
    assert [step.outcome for step in init_store(store)] == ["there"]
    assert store.get("a") == b"x"


class Careless(FolderStore):
    """As a server that takes no notice of a condition."""

    def replace(self, key: str, data: bytes, *, expected: str | None) -> str:
        self.put(key, data)
        return self.stat(key).etag


def test_a_store_that_takes_no_notice_of_conditions_is_told_as_such(tmp_path: Path) -> None:
    store = Careless(tmp_path)
    with pytest.raises(StoreError, match="two runs at once could lose"):
        list(check_store(store))
    assert list(store.list_keys()) == []
