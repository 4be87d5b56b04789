"""`alp` writes sentences to stderr, or JSON lines where they are asked for."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments.logs import set_up_logs
from schemas.errors import InputError, UsageError
from tasks import json_logs
from tasks.json_logs import json_line

ROOT = Path(__file__).resolve().parents[2]


def alp(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployments.cli", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240
    )


@pytest.fixture
def as_json(alp_environment: dict[str, str]) -> dict[str, str]:
    return alp_environment | {"ALP_LOG_FORMAT": "json"}


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_the_log_of_a_run_and_the_error_that_ends_it_are_lines_of_json(as_json: dict[str, str], tmp_path: Path) -> None:
    done = alp(as_json, tmp_path, "onboard", "none.zip", "--customer", "acme")
    assert done.returncode == InputError.exit_code
    assert done.stdout == ""
    found = lines(done)
    (end,) = [line for line in found if line["logger"] == "alp"]
    assert (end["level"], end["type"], end["exit_code"]) == ("ERROR", "InputError", InputError.exit_code)
    assert "none.zip" in end["message"]
    assert any(line.get("customer") == "acme" and line.get("stage") == "ingest" for line in found)


def test_where_lines_are_json_no_bar_is_drawn_between_them(
    as_json: dict[str, str], toy_zip: Path, tmp_path: Path
) -> None:
    done = alp(as_json, tmp_path, "check", str(toy_zip))
    assert done.returncode == 0
    assert lines(done) == []
    assert "accepted" in done.stdout


def test_a_store_that_cannot_be_opened_is_told_in_json_too(as_json: dict[str, str], tmp_path: Path) -> None:
    nobody = as_json | {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    (line,) = lines(alp(nobody, tmp_path, "store", "check", "s3://alp?endpoint=http://127.0.0.1:9"))
    assert line["level"] == "ERROR"
    assert "AWS_ACCESS_KEY_ID" in line["message"]


def test_another_form_is_refused_with_the_two_there_are(alp_environment: dict[str, str], tmp_path: Path) -> None:
    done = alp(alp_environment | {"ALP_LOG_FORMAT": "xml"}, tmp_path, "store", "check")
    assert done.returncode == UsageError.exit_code
    assert "ALP_LOG_FORMAT is 'xml'; set it to plain or json" in done.stderr


def test_what_the_environment_says_of_prefect_s_logs_counts_more() -> None:
    plain: dict[str, str] = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO"}
    set_up_logs(plain)
    assert plain == {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO"}
    wanted = {"ALP_LOG_FORMAT": "json", "PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS": "of.my.Own"}
    set_up_logs(wanted)
    assert wanted["PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS"] == "of.my.Own"
    assert (
        wanted["PREFECT_LOGGING_HANDLERS_DEBUG_CLASS"] == json_logs.ENVIRONMENT["PREFECT_LOGGING_HANDLERS_DEBUG_CLASS"]
    )
    assert "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL" not in wanted


def test_a_port_of_metrics_that_is_taken_is_named_with_what_to_do(
    alp_environment: dict[str, str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "deployments.capped_prefect", "worker", "start", "--pool", "alp"],
            cwd=tmp_path, env=alp_environment | {"ALP_METRICS_PORT": str(port)},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert done.returncode != 0
    assert f"cannot be told on 127.0.0.1:{port}" in done.stderr
    assert "ALP_METRICS_PORT" in done.stderr


def test_the_page_names_the_variables_and_the_fields_that_there_are() -> None:
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    for name, value in json_logs.ENVIRONMENT.items():
        assert f"export {name}={value}" in page
    fields = {*json_logs.FIELDS, "exception", "type", "exit_code", "problems"}
    (table,) = re.findall(r"\| field \| what it is \|\n(.*?)\n\n", page, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()))) == fields


def test_the_page_s_look_into_a_log_finds_what_went_wrong_today_whatever_else_stands_there(tmp_path: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^```\n(jq .*?)^```$", page, re.MULTILINE | re.DOTALL)
    today = datetime.now(UTC)
    of_acme = {"customer": "acme", "asset": "fan-00", "stage": "score"}
    log = tmp_path / "alp-platform" / "logs" / "worker.log"
    log.parent.mkdir(parents=True)
    lines = [
        "Worker 'local' started!",
        json_line("ERROR", "today's", time=today, **of_acme),
        json_line("INFO", "well", time=today, **of_acme),
        json_line("ERROR", "yesterday's", time=today - timedelta(days=1), **of_acme),
        json_line("ERROR", "another's", time=today, customer="other"),
        '{"cut',
        json_line("CRITICAL", "crashed", time=today, customer="acme"),
    ]
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(["sh", "-eu", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [json.loads(line)[-1] for line in done.stdout.splitlines()] == ["today's", "crashed"]


def test_every_test_that_the_threat_model_names_is_there() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/.]+)`", page))
    assert len(named) > 5
    assert [path for path in named if not (ROOT / path).exists()] == []
