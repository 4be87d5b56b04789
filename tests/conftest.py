"""Fixtures for every room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before anything imports Prefect: tests send nothing out.
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DO_NOT_TRACK"] = "1"
# As `alp` sets it: longer than the 60 s that the server's SQLite waits for a lock.
os.environ["PREFECT_API_REQUEST_TIMEOUT"] = "180"

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the checkout; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the real recordings are not beside this checkout (../shared/data)")
    return SHARED
