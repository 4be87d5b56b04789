"""What the terminal says of a pass and of a machine's alarms: judged, refused and left for later, each apart."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from deployments.alarm_commands import show
from deployments.monitor_commands import Printer, _print_summary
from engines.alarm import AlarmState
from tasks import keys
from tasks.alarms import write_state
from tasks.store import FolderStore
from tasks.watch_log import Row, WatchLog
from tasks.watch_news import Watched

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def row(number: int, *, refused: bool) -> Row:
    found = dict.fromkeys(("score", "p_value", "severity", "grade", "state", "exceeded"))
    return Row(
        recording_id=f"r{number}",
        file_sha=f"s{number}",
        name="a.wav",
        bytes=1,
        modified=NOON,
        time=NOON,
        duration_s=10.0,
        model_version="v1",
        engine="a",
        decision="refused" if refused else "off",
        notes="",
        alarm_state=AlarmState(seen=number).model_dump_json(),
        **found,
    )


def test_alarms_count_what_was_judged_and_what_was_refused_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FolderStore(tmp_path)
    ledger = pd.DataFrame({"machine_type": ["fan"], "section_id": ["00"]})
    store.put_frame(keys.asset("acme", "fan-00", "ledger.parquet"), ledger)
    log = WatchLog(store, "acme", "fan-00", "v1")
    with log.locked():
        log.file_rows([row(number, refused=number > 2) for number in range(1, 6)])
        write_state(store, "acme", "fan-00", log, None)
    show("fan-00", customer="acme", store=store.url, as_json=False)
    assert "2 judged and 3 refused by model v1" in capsys.readouterr().out


def watched(*unfinished: str) -> Watched:
    return Watched(
        customer="acme",
        asset="fan-00",
        language="en",
        model_version="v1",
        judged=0,
        refused={},
        repeated=0,
        waiting=len(unfinished),
        unfinished=unfinished,
        raised=(),
        cleared=(),
        told=0,
        drifted=False,
        uncovered=False,
        outrun=False,
        notes=(),
        changed=False,
    )


@pytest.mark.parametrize(
    ("unfinished", "said"),
    [
        ((), None),
        (("half.wav",), "looked at again at the next pass: half.wav"),
        (tuple("abcdefg"), "looked at again at the next pass: a, b, c, d, e and 2 more"),
    ],
)
def test_a_pass_names_what_it_leaves_to_the_next(tmp_path: Path, unfinished: tuple[str, ...], said: str | None) -> None:
    file = io.StringIO()
    _print_summary(Printer(Console(file=file, width=200)), watched(*unfinished), FolderStore(tmp_path).url)
    assert f"{len(unfinished)} not finished" in file.getvalue()
    assert ("next pass" in file.getvalue()) is (said is not None)
    assert (said or "") in file.getvalue()
