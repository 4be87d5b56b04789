"""`alp store` against a real S3 server and a folder."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.store import open_store
from tests.deployments.conftest import ROOT
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

Alp = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def url(s3_server: S3Server) -> str:
    """A store in a bucket that nobody has made yet."""
    return s3_server.url(f"alp-{uuid.uuid4().hex[:8]}", "plant")


@pytest.fixture
def alp_with(alp_environment: dict[str, str]) -> Alp:
    """Runs `alp` with credentials."""

    def run(*arguments: str, secret: str = SECRET_KEY) -> subprocess.CompletedProcess[str]:
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": secret}
        command = [sys.executable, "-m", "deployments.cli", "store", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=alp_environment | keys, capture_output=True, text=True, check=False, timeout=120
        )

    return run


def test_a_bucket_is_made_tried_out_and_linked_to(alp_with: Alp, url: str) -> None:
    missing = alp_with("check", url)
    assert missing.returncode == 5
    assert f"alp store init '{url}'" in missing.stderr.replace("\n", "")
    first, second = alp_with("init", url), alp_with("init", url, "--json")
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.count(": made;") == 3
    assert [step["outcome"] for step in json.loads(second.stdout)["steps"]] == ["there"] * 3
    checked = alp_with("check", url)
    assert (checked.returncode, len(checked.stdout.splitlines())) == (0, 5), checked.stderr
    open_store(url).put("customers/acme/fleet.html", b"<p>fleet</p>")
    linked = alp_with("link", "customers/acme/fleet.html", "--store", url, "--hours", "1")
    assert linked.returncode == 0
    with urllib.request.urlopen(linked.stdout.strip()) as page:
        assert page.read() == b"<p>fleet</p>"
    as_printed = open_store(url).uri("customers/acme/fleet.html")
    with urllib.request.urlopen(alp_with("link", as_printed, "--store", url).stdout.strip()) as page:
        assert page.read() == b"<p>fleet</p>"


def test_a_wrong_secret_is_told_and_not_shown(alp_with: Alp, url: str) -> None:
    for arguments in (("init", url), ("check", url), ("link", "a/b", "--store", url)):
        refused = alp_with(*arguments, secret="hush-hush-hush")
        assert refused.returncode == 5
        assert "do not belong together" in refused.stderr.replace("\n", " ")
        assert "hush-hush-hush" not in refused.stdout + refused.stderr


def test_a_folder_is_made_tried_out_and_linked_to(alp_with: Alp, tmp_path: Path) -> None:
    url = (tmp_path / "store").as_uri()
    assert alp_with("init", url).stdout.startswith("folder: made;")
    assert alp_with("check", url).returncode == 0
    open_store(url).put("a/b", b"x")
    assert alp_with("link", "a/b", "--store", url).stdout.strip() == f"{url}/a/b"
