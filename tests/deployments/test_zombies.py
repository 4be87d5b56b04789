"""`alp deploy` registers what marks runs crashed that nobody works on; that they are marked, tests/faults sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, get_client
from prefect.runtime import flow_run

from deployments.deploying import Plan, deploy
from deployments.prefect_server import all_automations
from schemas.customers import Customer
from tasks.heartbeats import ALIVE, EVERY_S
from tasks.showing import shown
from tasks.store import FolderStore
from tests.deployments.prefect_rig import await_true, harness

ACME: dict[str, Any] = {"name": "acme"}
SILENT, NEVER_BEGUN = "alp zombies: silent", "alp zombies: never begun"


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with harness():
        yield


def run(tmp_path: Path, *said: dict[str, Any]) -> Plan:
    customers = {each["name"]: Customer.model_validate(each) for each in said}
    return deploy(customers, FolderStore(tmp_path / "store").url, dry_run=False)


def stored() -> dict[str, dict[str, Any]]:
    with get_client(sync_client=True) as client:
        return {each["name"]: each for each in client.request("POST", "/automations/filter", json={}).json()}


def test_deploying_registers_them_once_keeps_them_and_takes_them_away_with_the_last_customer(tmp_path: Path) -> None:
    first = {each.name: each.action for each in run(tmp_path, ACME).changes if "zombies" in each.name}
    assert first == {f"automation {name}": "add" for name in (SILENT, NEVER_BEGUN)}
    assert run(tmp_path, ACME).changes == [], "what stands as it is wanted is not touched"

    silent = stored()[SILENT]
    assert set(silent["tags"]) == {"alp", "alp-zombies"}
    trigger = silent["trigger"]
    assert (trigger["posture"], trigger["threshold"], trigger["within"]) == ("Proactive", 1, 4 * EVERY_S)
    assert trigger["for_each"] == ["prefect.resource.id"], "each run by itself"
    assert trigger["after"] == ["alp.flow-run.alive"]
    assert {"alp.flow-run.alive", "prefect.flow-run.Completed", "prefect.flow-run.Rejected"} <= set(trigger["expect"])
    (action,) = silent["actions"]
    assert (action["type"], action["state"]) == ("change-flow-run-state", "CRASHED")
    begun = stored()[NEVER_BEGUN]["trigger"]
    assert begun["match_related"]["prefect.resource.id"] == ["prefect.tag.alp-customer", "prefect.tag.alp-retrain"]

    with get_client(sync_client=True) as client:
        client.pause_automation(silent["id"])
        document = stored()[NEVER_BEGUN] | {"actions": [silent["actions"][0] | {"message": "another"}]}
        wanted = {name: document[name] for name in ("name", "tags", "trigger", "actions", "description", "enabled")}
        client.request("PUT", f"/automations/{document['id']}", json=wanted).raise_for_status()
    (mended,) = run(tmp_path, ACME).changes
    assert (mended.name, list(mended.fields)) == (f"automation {NEVER_BEGUN}", ["action.message"])
    assert not stored()[SILENT]["enabled"], "what was paused stays paused"

    gone = {each.name: each.action for each in run(tmp_path).changes}
    assert gone[f"automation {SILENT}"] == "remove"
    with get_client(sync_client=True) as client:
        assert all_automations(client) == []


def test_a_run_that_is_over_at_once_has_given_its_sign_before(tmp_path: Path) -> None:
    """A sign that is heard after the end would be the last one, as of a run that was killed."""

    @shown()
    @flow(name="over-at-once")
    def brief() -> str:
        return str(flow_run.id)

    resource = f"prefect.flow-run.{brief()}"
    ended = "prefect.flow-run.Completed"

    def heard() -> dict[str, str]:
        wanted = {"event": {"name": [ALIVE, ended]}, "resource": {"id": [resource]}}
        with get_client(sync_client=True) as client:
            found = client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"]
        return {each["event"]: each["received"] for each in found}

    await_true(lambda: len(heard()) == 2, seconds=180, what="both")
    assert heard()[ALIVE] < heard()[ended]
