"""Every line of a run says whose it is: the steps' own, Prefect's, and the one that a run has ended."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_LOGGING_LEVEL, temporary_settings

from flows.onboard import onboard
from schemas.settings import OnboardSettings
from tasks.json_logs import JsonLines
from tasks.runs import Manifest


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What the runs of this test log, filled when the test asks for it."""
    stream, found = io.StringIO(), Lines()
    handler = JsonLines(stream)
    found.stream = stream
    loggers = [logging.getLogger(name) for name in ("prefect.flow_runs", "prefect.task_runs")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    with temporary_settings(updates={PREFECT_LOGGING_LEVEL: "INFO"}):
        yield found
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


class Lines(list[dict[str, Any]]):
    stream: io.StringIO

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


def test_every_line_of_a_run_says_whose_it_is(lines: Lines, toy_folder: Path, tmp_path: Path, bare_pages: None) -> None:
    manifest = onboard(
        str(toy_folder), "acme", f"file://{tmp_path}/store", OnboardSettings(encoder="logmel", engine="a")
    )
    assert isinstance(manifest, Manifest)
    found = lines.read()
    assert {line.get("customer") for line in found} == {"acme"}
    assert {line["stage"] for line in found} == set(manifest.result.reused) | {
        "onboard", "ingest", "qa", "standardize", "select", "score", "calibrate", "report"
    }  # fmt: skip
    of_machines = [line for line in found if line["stage"] in ("select", "score", "calibrate")]
    assert {line.get("asset") for line in of_machines} - {None} == {"fan-00", "valve-00"}
    named = [line for line in of_machines if "fan-00" in line.get("task_run", "")]
    assert named
    assert {line.get("asset") for line in named if not line["message"].startswith("Finished")} <= {"fan-00"}
    assert {line.get("run") for line in of_machines} == {manifest.run.run_id}
    ended = [line for line in found if line["message"].startswith("Finished in state") and "task_run" not in line]
    assert {line["stage"] for line in ended} >= {"onboard", "score"}


def test_a_run_that_fails_says_whose_it_was(lines: Lines, tmp_path: Path) -> None:
    onboard(str(tmp_path / "none.zip"), "acme", f"file://{tmp_path}/store", OnboardSettings(), return_state=True)
    errors = [line for line in lines.read() if line["level"] == "ERROR"]
    assert errors
    assert {line.get("customer") for line in errors} == {"acme"}
