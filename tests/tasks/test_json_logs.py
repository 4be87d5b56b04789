"""A log line as JSON: what it holds, and whose run it is of."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import Any

import pytest

from schemas.references import Asset, Run, Selection, Source
from schemas.settings import OnboardSettings
from tasks.json_logs import JsonLines, json_line, labels_of

RUN = Run(
    run_id="0123456789abcdef",
    customer="acme",
    package_id="fedcba9876543210",
    store="file:///store",
    settings=OnboardSettings(),
    code_version="1",
)
ASSET = Asset(
    customer="acme",
    machine_type="fan",
    section_id="00",
    asset_id="fan-00",
    ledger_key="ledger",
    ledger_version="1",
    target=3,
    source=0,
    test=1,
)
SELECTION = Selection(
    asset=ASSET,
    source=Source(asset=ASSET, key="key", version="1", recordings=0, own=0, customers=("another",)),
    engine="a",
    encoder="logmel",
    reason="",
    criteria=(),
)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def logger(stream: io.StringIO) -> logging.Logger:
    logger = logging.Logger("alp.test")
    logger.addHandler(JsonLines(stream, styles={"log.level": "red"}))
    return logger


def written(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("parameters", "labels"),
    [
        ({"customer": "acme", "asset": "fan-00", "store": "file:///s"}, {"customer": "acme", "asset": "fan-00"}),
        ({"machine_type": "fan"}, {"machine_type": "fan"}),
        ({"run": RUN}, {"customer": "acme", "package": "fedcba9876543210", "run": "0123456789abcdef"}),
        (
            {"selection": SELECTION, "engine": "a", "run": RUN},
            {
                "customer": "acme",
                "machine_type": "fan",
                "asset": "fan-00",
                "package": "fedcba9876543210",
                "run": "0123456789abcdef",
            },
        ),
        ({"settings": OnboardSettings(), "n": 3, "nothing": None, "list": [ASSET]}, {}),
    ],
)
def test_whose_a_run_is_is_read_off_its_parameters(parameters: dict[str, Any], labels: dict[str, str]) -> None:
    assert labels_of(parameters) == labels


def test_what_prefect_carried_to_another_process_says_the_same() -> None:
    parameters = {"selection": SELECTION, "run": RUN}
    assert labels_of({name: value.model_dump() for name, value in parameters.items()}) == labels_of(parameters)


def test_a_line_holds_what_is_known_and_nothing_else(logger: logging.Logger, stream: io.StringIO) -> None:
    logger.warning("%s of %s", 3, "팬", extra={"flow_run_name": "score-acme-fan-00", "flow_name": "score"})
    (line,) = written(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "WARNING",
        "logger": "alp.test",
        "message": "3 of 팬",
        "stage": "score",
        "flow_run": "score-acme-fan-00",
    }


def test_whatever_a_name_holds_a_record_is_one_line_of_ascii(logger: logging.Logger, stream: io.StringIO) -> None:
    logger.info('a\nb\r\u2028"\x1b[31m\ud800 {"level": "CRITICAL"}')
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().isascii()
    assert written(stream)[0]["level"] == "INFO"


def test_a_fault_brings_its_traceback(logger: logging.Logger, stream: io.StringIO) -> None:
    try:
        raise OSError("no room")
    except OSError:
        logger.exception("it failed")
    (line,) = written(stream)
    assert line["exception"].startswith("Traceback")
    assert "OSError: no room" in line["exception"]


def test_of_parameters_only_their_labels_are_written(logger: logging.Logger, stream: io.StringIO) -> None:
    logger.info("scored", extra={"parameters": {"settings": "hidden"}, "password": "hidden"})
    assert "hidden" not in stream.getvalue()


def test_a_line_without_prefect_needs_none(
    monkeypatch: pytest.MonkeyPatch, logger: logging.Logger, stream: io.StringIO
) -> None:
    monkeypatch.delitem(sys.modules, "prefect.context", raising=False)
    logger.info("early", extra={"flow_run_id": "7"})
    assert written(stream)[0]["flow_run_id"] == "7"


def test_what_is_empty_is_left_out() -> None:
    assert set(json.loads(json_line("INFO", "said", customer=None, run=""))) == {"time", "level", "logger", "message"}
