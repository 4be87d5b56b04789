"""What docs/operations.md says of a server's database: dumped and kept with a backup, and put back elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.postgres_server import Postgres, run_postgres

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
DUMP, RESTORE = (
    block for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if "docker" not in block
)


def types(block: str, server: Postgres, folder: Path) -> None:
    """Run the page's lines of shell in `folder`, with that server's address and password."""
    (folder / "store").mkdir(parents=True, exist_ok=True)
    alp = folder / "alp"
    alp.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m deployments.cli "$@"\n')
    alp.chmod(0o755)
    environment = os.environ | {
        "PATH": os.pathsep.join([str(folder), str(server.programs), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "PREFECT_DATABASE": f"postgresql://prefect@127.0.0.1:{server.port}/prefect",
        "PGPASSWORD": server.password,
        "ALP_STORE": (folder / "store").as_uri(),
        "ALP_BACKUP": (folder.parent / "nas").as_uri(),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], cwd=folder, env=environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_database_comes_back_from_its_dump(postgres: Postgres, tmp_path: Path) -> None:
    postgres.ask("CREATE TABLE of_a_test AS SELECT 'the past' AS run")
    try:
        types(DUMP, postgres, tmp_path / "server")
    finally:
        postgres.ask("DROP TABLE of_a_test")
    types('alp backup restore --store "$ALP_STORE"', postgres, tmp_path / "new")
    with run_postgres(durable=False) as other:
        types(RESTORE, other, tmp_path / "new")
        assert other.ask("SELECT run FROM of_a_test") == "the past"
        types(RESTORE, other, tmp_path / "new")


@pytest.mark.usefixtures("postgres")  # which skips where there is none
def test_a_new_password_opens_it_and_the_old_one_does_not() -> None:
    (statement,) = re.findall(r"`(ALTER USER [^`]*)`", PAGE)
    with run_postgres(durable=False) as server:
        server.ask(statement.replace("…", "another"))
        with pytest.raises(subprocess.CalledProcessError):
            server.ask("SELECT 1")
        assert server.ask("SELECT 1", password="another") == "1"
