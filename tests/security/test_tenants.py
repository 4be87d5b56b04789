"""What is one customer's stays that customer's: keys, objects, artifacts, logs and parameters."""

from __future__ import annotations

import inspect
import io
import json
import re
import string
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import get_client

from flows.ingest import ingest
from schemas.customers import LONGEST_NAME
from schemas.errors import UsageError
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.store import FolderStore
from tests.security.conftest import FIRST, MARKS, SECOND, Tenants, owner

BOTH = [(FIRST, SECOND), (SECOND, FIRST)]
"""Whose things are looked at, and whose must not be in them."""
NAMED = {
    FIRST: re.compile(r"\bacme\b(?!-ulsan)"),
    SECOND: re.compile(r"\bacme-ulsan\b"),
}
"""A customer called by its name."""

_part = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
customers = st.lists(_part, min_size=1, max_size=3).map("-".join).filter(lambda name: len(name) <= LONGEST_NAME)
package_ids = st.text("0123456789abcdef", min_size=16, max_size=16)


# --- keys -------------------------------------------------------------------------------------------------------------


def rooms_of(customer: str) -> list[str]:
    """Prefix of each room of a customer's: what is listed, purged and counted as that customer's."""
    made = []
    for function in (keys.raw, keys.package, keys.asset, keys.run, keys.recordings, keys.inbox_log):
        arguments = [customer, *["x"] * (len(inspect.signature(function).parameters) - 1)]
        room = function(*arguments)
        made.append(room[: room.index(f"/{customer}/") + len(customer) + 2])
    return made


@given(one=customers, other=customers, package=package_ids)
def test_no_key_of_one_customer_lies_in_a_room_of_another(one: str, other: str, package: str) -> None:
    if one == other:
        return
    theirs = [
        keys.raw(other, package),
        keys.clip_audio(other, package, package[:12]),
        keys.asset(other, "fan-00", "champion.json"),
        keys.model(other, "fan-00", package),
        keys.run(other, package, "manifest.json"),
        keys.recordings(other, "fan-00", "a.wav"),
        keys.fleet(other),
        keys.consent(other),
    ]
    assert [key for key in theirs for room in rooms_of(one) if key.startswith(room)] == []
    assert {owner(key) for key in theirs} == {other}


@given(customer=customers, package=package_ids)
def test_the_library_knows_whose_a_recording_is_whatever_the_customer_is_called(customer: str, package: str) -> None:
    assert keys.library_parts(keys.library("fan", customer, package)) == ("fan", customer, package)


@pytest.mark.parametrize("name", ["../acme", "acme/../acme-ulsan", "acme/", "", "acme-", "*", "ACME", "acme\n"])
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_written(
    name: str, tmp_path: Path, prefect_harness: None
) -> None:
    store = FolderStore(tmp_path / "store")
    state = ingest("inbox/acme/a.zip", name, store.url, OnboardSettings(), return_state=True)
    with pytest.raises(UsageError, match="cannot be used as a name"):
        state.result()
    assert list(store.list_keys()) == []


# --- objects ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("whose", "other"), BOTH)
def test_nothing_of_another_customer_is_in_what_a_customer_is_given(tenants: Tenants, whose: str, other: str) -> None:
    objects = tenants.objects_of(whose)
    assert {"manifest.json", "report.html", "scores.csv", "source.parquet"} <= {
        key.rpartition("/")[2] for key in objects
    }
    texts = {key: as_text(key, data) for key, data in objects.items()}
    marked = {key.rpartition("/")[2] for key, text in texts.items() if MARKS[whose] in text}
    assert {"report.html", "scores.csv", "ledger.parquet", "metadata.parquet", "manifest.json"} <= marked
    assert [key for key, text in texts.items() if MARKS[other] in text] == []
    assert [key for key, text in texts.items() if NAMED[other].search(text)] == []


def test_every_object_is_some_customer_s_or_nobody_s(tenants: Tenants) -> None:
    assert {owner(key) for key in tenants.store.list_keys()} <= {FIRST, SECOND, None}
    ownerless = [key for key in tenants.store.list_keys() if owner(key) is None]
    texts = {key: as_text(key, tenants.store.get(key)) for key in ownerless}
    assert [key for key, text in texts.items() for mark in MARKS.values() if mark in text] == []


def as_text(key: str, data: bytes) -> str:
    """An object as somebody reads it: of a table its cells, of a sound nothing."""
    if key.endswith((".flac", ".zip", ".safetensors", ".png")):
        return ""
    if key.endswith(".parquet"):
        return pd.read_parquet(io.BytesIO(data)).to_csv()
    return data.decode("utf-8")


# --- the Prefect server -----------------------------------------------------------------------------------------------


def runs_of(customer: str) -> list[dict[str, Any]]:
    """Flow runs with the customer's tag, as the server has them."""
    wanted = {"flow_runs": {"tags": {"all_": [f"customer:{customer}"]}}, "limit": 200}
    with get_client(sync_client=True) as client:
        found: list[dict[str, Any]] = client.request("POST", "/flow_runs/filter", json=wanted).json()
    return found


@pytest.mark.parametrize(("whose", "other"), BOTH)
def test_a_customer_s_artifacts_name_nothing_of_another(tenants: Tenants, whose: str, other: str) -> None:
    runs = [run["id"] for run in runs_of(whose)]
    with get_client(sync_client=True) as client:
        everything = client.request("POST", "/artifacts/filter", json={"limit": 200}).json()
    found = [artifact for artifact in everything if artifact["flow_run_id"] in runs]
    assert {artifact["key"].partition("-")[0] for artifact in found if artifact["key"]} >= {
        "summary",
        "selection",
        "scores",
    }
    texts = [json.dumps(artifact) for artifact in found]
    assert any(MARKS[whose] in text for text in texts)
    assert [text for text in texts if MARKS[other] in text or NAMED[other].search(text)] == []
    linked = {match[1] for text in texts for match in re.finditer(r"/(?:runs|customers)/([a-z0-9-]+)/", text)}
    assert linked == {whose}


@pytest.mark.parametrize(("whose", "other"), BOTH)
def test_a_customer_s_runs_and_their_logs_name_nothing_of_another(tenants: Tenants, whose: str, other: str) -> None:
    runs = runs_of(whose)
    assert len(runs) > 5
    logs: list[dict[str, Any]] = []
    with get_client(sync_client=True) as client:
        for run in runs:
            wanted = {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200}
            logs += client.request("POST", "/logs/filter", json=wanted).json()
    told = [json.dumps(each) for each in (*runs, *logs)]
    assert [text for text in told if MARKS[other] in text or NAMED[other].search(text)] == []
