"""What an s3:// URL may say, and that a secret in one is never repeated."""

from __future__ import annotations

import subprocess
import sys

import pytest

from schemas.errors import StoreError, UsageError
from tasks.s3_address import AWS, Credentials, S3Address
from tasks.store import open_store


@pytest.mark.parametrize(
    ("url", "bucket", "prefix", "endpoint", "region"),
    [
        ("s3://alp-data?endpoint=http://127.0.0.1:9000", "alp-data", "", "http://127.0.0.1:9000", None),
        ("s3://alp/plant/a/?endpoint=https://minio.plant:9000/", "alp", "plant/a/", "https://minio.plant:9000", None),
        ("s3://alp?endpoint=http%3A%2F%2F[::1]%3A9000&region=eu-1", "alp", "", "http://[::1]:9000", "eu-1"),
        ("s3://alp.data?region=ap-northeast-2", "alp.data", "", AWS, "ap-northeast-2"),
    ],
)
def test_a_url_says_bucket_prefix_endpoint_and_region(
    url: str, bucket: str, prefix: str, endpoint: str, region: str | None
) -> None:
    address = S3Address.parse(url)
    assert address == S3Address(bucket, prefix, endpoint, region)
    assert S3Address.parse(address.url) == address
    assert address.uri("a/소리.wav") == f"s3://{bucket}/{prefix}a/%EC%86%8C%EB%A6%AC.wav"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://", "names no bucket"),
        ("s3://Alp?endpoint=http://h", "names no bucket: 'Alp'"),
        ("s3://al?endpoint=http://h", "names no bucket"),
        ("s3://a..b?endpoint=http://h", "names no bucket"),
        ("s3://a.-b?endpoint=http://h", "names no bucket"),
        ("s3://192.168.1.1?endpoint=http://h", "names no bucket"),
        ("s3://alp-s3alias?endpoint=http://h", "names no bucket"),
        (f"s3://{'a' * 64}?endpoint=http://h", "names no bucket"),
        (f"s3://alp/{'a' * 101}?endpoint=http://h", "prefix of more than 100"),
        ("s3://alp/../up?endpoint=http://h", "prefix"),
        ("s3://alp/.locks?endpoint=http://h", "prefix"),
        ("s3://alp?endpoint=127.0.0.1:9000", "no http://host:port"),
        ("s3://alp?endpoint=ftp://host", "no http://host:port"),
        ("s3://alp?endpoint=http://host/path", "no http://host:port"),
        ("s3://alp?endpoint=http://host:port", "cannot be read"),
        ("s3://alp?endpoint=http://a..b:9000", "no http://host:port"),
        ("s3://alp?endpoint=http://공장.kr:9000", "no http://host:port"),
        ("s3://alp?endpoint=http://host:9000?x", "no http://host:port"),
        ("s3://alp?endpoint=http://a&endpoint=http://b", "twice"),
        ("s3://alp?endpoint", "cannot be read"),
        ("s3://alp?region=a_b", "us-east-1"),
        ("s3://alp?region=-a", "us-east-1"),
        ("s3://alp#x", "'#'"),
    ],
)
def test_a_url_that_cannot_be_says_what_to_write(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        open_store(url)
    assert "s3://bucket/prefix?endpoint=http://host:9000" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hush@alp?endpoint=http://host:9000",
        "s3://key:hush?endpoint=http://host:9000",
        "s3://alp?endpoint=http://key:hush@host:9000",
        "s3://alp?endpoint=http://host:9000&secret_key=hush",
        "s3://alp?endpoint=http://host:9000&hush",
        "https://key:hush@host:9000/alp",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("missing", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_without_credentials_the_error_says_which_are_missing(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.delenv(missing)
    with pytest.raises(StoreError, match=rf"http://host:9000 asks .* holds no {missing}; set"):
        open_store("s3://alp?endpoint=http://host:9000")


def test_credentials_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, f"hush {name}")
    address = S3Address.parse("s3://alp?endpoint=http://host:9000")
    assert "hush AWS_S" not in repr(Credentials.of_environment(address))


def test_the_sdk_is_imported_by_whoever_opens_a_bucket_and_nobody_else() -> None:
    code = "import sys, tasks.store; tasks.store.open_store('file:///x'); sys.exit('minio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
