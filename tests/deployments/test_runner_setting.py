"""Processes that share the steps of a run that has no Prefect server but its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

ASK_WORKERS = """
from prefect import flow, task
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL
from tasks.spreading import spread
from tasks.task_runner import ChosenRunner

@task(name="Tell the server")
def tell_server(number):
    return PREFECT_API_URL.value()

@flow(task_runner=ChosenRunner)
def ask_workers():
    return [str(FlowRunContext.get().client.api_url), *spread(tell_server, range(2))]

if __name__ == "__main__":
    print(*(url.rstrip("/") for url in ask_workers()))
"""


def test_workers_of_a_run_without_a_server_that_stays_use_the_run_s_own(
    alp_environment: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "ask_workers.py"
    script.write_text(ASK_WORKERS, encoding="utf-8")
    environment = alp_environment | {"ALP_RUNNER": "processes", "ALP_WORKERS": "2"}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    here, *workers = done.stdout.split()
    assert workers == [here, here]
