"""Growth starts a retraining: deployments, automations as the server stores them, and what an event makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL

from deployments.deploying import Change, Plan, deploy
from deployments.prefect_server import all_automations
from deployments.registering import POOL
from deployments.retraining import load_retraining
from schemas.customers import Customer
from schemas.errors import EnvironmentFault, UsageError
from schemas.retraining import Retraining
from schemas.settings import GrowthPolicy
from tasks.growth import begin_retraining, end_retraining, read_policy, set_policy, tell_of_growth
from tasks.store import FolderStore
from tests.deployments.prefect_rig import await_true, prefect_server
from tests.tasks.library_rig import run_of, segments, send

PUMPS: dict[str, Any] = {"name": "acme", "machine_types": {"pump": None}}
AT_ONCE = Retraining(rest_minutes=0, growth=GrowthPolicy(recordings=4), time_zone="Asia/Seoul")


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this module's own, with the services that make runs of events."""
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture(autouse=True)
def empty_server(server: str) -> Iterator[None]:
    yield
    with get_client(sync_client=True) as client:
        for automation in all_automations(client):
            client.delete_automation(automation.id)
        for found in client.read_deployments():
            client.delete_deployment(found.id)


def run(store: FolderStore, *said: dict[str, Any], when: Retraining = AT_ONCE, dry_run: bool = False) -> Plan:
    customers = {each["name"]: Customer.model_validate(each) for each in said}
    return deploy(customers, store.url, retraining=when, dry_run=dry_run)


def changes(plan: Plan) -> dict[str, Change]:
    return {each.name: each for each in plan.changes if "retrain" in each.name}


def actions(plan: Plan) -> dict[str, str]:
    return {name: each.action for name, each in changes(plan).items()}


def deployment(name: str) -> Any:
    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name(name)


def deployments() -> set[str]:
    with get_client(sync_client=True) as client:
        return {each.name for each in client.read_deployments() if "alp-retrain" in each.tags}


def stored_automations() -> dict[str, dict[str, Any]]:
    """Those of machine types, as the server gives them, unread by any model of the client's."""
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/automations/filter", json={}).json()
    return {each["name"]: each for each in found if each["name"].startswith("alp retrain: ")}


def runs_of(name: str) -> list[FlowRun]:
    """Runs of a deployment that no schedule made."""
    wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment(name).id]))
    with get_client(sync_client=True) as client:
        return [each for each in client.read_flow_runs(flow_run_filter=wanted) if not each.auto_scheduled]


# --- what is registered -----------------------------------------------------------------------------------------


def test_every_type_that_a_file_names_or_the_library_holds_gets_a_deployment_and_an_automation(
    store: FolderStore,
) -> None:
    send(store, "former", "1" * 16, segments("a"))
    plan = run(store, PUMPS)
    kinds = ("fan", "pump")
    assert actions(plan) == {
        **{f"retrain/{kind}": "add" for kind in kinds},
        **{f"automation alp retrain: {kind}": "add" for kind in kinds},
        "policy of retraining": "change",
    }
    found = deployment("retrain/fan")
    (sweep,) = found.schedules
    assert (sweep.schedule.cron, sweep.schedule.timezone, sweep.active) == ("17 3 * * *", "Asia/Seoul", True)
    assert set(found.tags) == {"alp", "alp-retrain", "machine:fan"}
    assert (found.work_pool_name, found.global_concurrency_limit.limit) == (POOL, 1)
    assert found.concurrency_options.collision_strategy == "ENQUEUE"
    assert found.parameters == {
        "machine_type": "fan",
        "store": store.url,
        "growth": {"recordings": 4, "share": 0.2},
        "only_if_due": True,
    }
    flow = load_flow_from_entrypoint(found.entrypoint, use_placeholder_flow=False)
    assert flow.name == "retrain"
    assert flow.validate_parameters(found.parameters)["growth"] == AT_ONCE.growth
    assert read_policy(store) == AT_ONCE.growth, "where an onboarding reads it"


def test_the_stored_automation_is_the_one_that_was_meant(store: FolderStore) -> None:
    run(store, PUMPS, when=Retraining(rest_minutes=1.5))
    (stored,) = stored_automations().values()
    assert (stored["name"], stored["enabled"]) == ("alp retrain: pump", True)
    assert set(stored["tags"]) == {"alp", "alp-retrain", "machine:pump"}
    trigger = stored["trigger"]
    assert (trigger["type"], trigger["expect"], trigger["after"]) == ("event", ["alp.source.grown"], [])
    assert trigger["match"] == {"prefect.resource.id": "alp.library.pump", "alp.retraining": "due"}
    assert trigger["match_related"] == {}
    assert (trigger["posture"], trigger["threshold"], trigger["within"]) == ("Reactive", 1, 0)
    assert trigger["for_each"] == []
    (action,) = stored["actions"]
    assert (action["type"], action["source"]) == ("run-deployment", "selected")
    assert action["deployment_id"] == str(deployment("retrain/pump").id)
    assert action["schedule_after"] == 90
    assert action["job_variables"] is None
    assert action["parameters"] == {
        "recordings": {
            "__prefect_kind": "json",
            "value": {"__prefect_kind": "jinja", "template": "{{ event.payload.new_since_training | tojson }}"},
        },
        "customer": {
            "__prefect_kind": "json",
            "value": {"__prefect_kind": "jinja", "template": "{{ event.payload.customer | tojson }}"},
        },
    }
    assert stored["actions_on_trigger"] == stored["actions_on_resolve"] == []


def test_what_stands_as_it_is_wanted_is_not_touched(store: FolderStore) -> None:
    run(store, PUMPS)
    before = stored_automations(), deployment("retrain/pump").updated
    again = run(store, PUMPS)
    assert (again.changes, again.as_wanted) == ([], 6)
    assert (stored_automations(), deployment("retrain/pump").updated) == before


def test_a_change_is_shown_and_made_and_what_was_paused_stays_paused(store: FolderStore) -> None:
    run(store, PUMPS)
    (stored,) = stored_automations().values()
    with get_client(sync_client=True) as client:
        client.pause_automation(stored["id"])
    assert run(store, PUMPS).changes == []
    later = Retraining(rest_minutes=30, growth=GrowthPolicy(recordings=99), sweep=None)
    found = changes(run(store, PUMPS, when=later))
    assert found["policy of retraining"].fields == {"recordings": (4, 99)}
    assert found["retrain/pump"].fields == {
        "schedule": ("17 3 * * * Asia/Seoul", "by hand alone"),
        "parameters.growth.recordings": (4, 99),
    }
    automation = found["automation alp retrain: pump"]
    assert (automation.fields, automation.paused) == ({"action.schedule_after": (None, 1800.0)}, True)
    (after,) = stored_automations().values()
    assert (after["id"], after["enabled"]) == (stored["id"], False)
    assert after["actions"][0]["schedule_after"] == 1800
    assert after["actions"][0]["parameters"] == stored["actions"][0]["parameters"]
    assert deployment("retrain/pump").schedules == []


def test_what_somebody_emptied_in_the_ui_is_put_back(store: FolderStore) -> None:
    run(store, PUMPS)
    (stored,) = stored_automations().values()
    emptied = {name: stored[name] for name in ("name", "description", "enabled", "tags")}
    emptied["trigger"] = stored["trigger"] | {"match": {"prefect.resource.id": "alp.library.*"}}
    emptied["actions"] = [stored["actions"][0] | {"parameters": {}}]
    with get_client(sync_client=True) as client:
        client.request("PUT", f"/automations/{stored['id']}", json=emptied).raise_for_status()
    (found,) = changes(run(store, PUMPS)).values()
    assert found.name == "automation alp retrain: pump"
    assert "trigger.match.alp.retraining" in found.fields
    (after,) = stored_automations().values()
    assert (after["actions"], after["trigger"]["match"]) == (stored["actions"], stored["trigger"]["match"])


def test_a_dry_run_shows_the_same_and_changes_nothing(store: FolderStore) -> None:
    planned = run(store, PUMPS, dry_run=True)
    assert (stored_automations(), deployments(), read_policy(store)) == ({}, set(), GrowthPolicy())
    assert actions(run(store, PUMPS)) == actions(planned)


def test_a_type_that_left_is_taken_away_and_no_other_automation(store: FolderStore) -> None:
    fans = PUMPS | {"machine_types": {"pump": None, "fan": None}}
    run(store, fans)
    (foreign,) = [each for name, each in stored_automations().items() if name.endswith("fan")]
    with get_client(sync_client=True) as client:
        mine = {name: foreign[name] for name in ("trigger", "actions")} | {"name": "alp retrain: mine", "tags": []}
        client.request("POST", "/automations/", json=mine).raise_for_status()
    plan = run(store, PUMPS)
    assert actions(plan) == {"retrain/fan": "remove", "automation alp retrain: fan": "remove"}
    assert deployments() == {"pump"}
    assert set(stored_automations()) == {"alp retrain: pump", "alp retrain: mine"}


def test_of_two_automations_of_one_name_one_stays(store: FolderStore) -> None:
    run(store, PUMPS)
    (stored,) = stored_automations().values()
    twin = {name: stored[name] for name in ("name", "tags", "trigger", "actions", "description")}
    with get_client(sync_client=True) as client:
        client.request("POST", "/automations/", json=twin).raise_for_status()
        run(store, PUMPS)
        assert [each.name for each in all_automations(client) if "retrain" in each.name] == ["alp retrain: pump"]


# --- what growth makes of it ------------------------------------------------------------------------------------


def grow(store: FolderStore, customer: str, package: str, *recordings: str) -> None:
    joined = send(store, customer, package, segments(*recordings, kind="pump", section=package[0]))
    tell_of_growth.fn(joined, run_of(store, customer, package))


def test_growth_that_is_due_starts_one_run_with_typed_parameters(store: FolderStore) -> None:
    run(store, PUMPS, when=AT_ONCE.model_copy(update={"rest_minutes": 1.0}))
    grow(store, "acme", "1" * 16, "a1", "a2", "a3")
    grow(store, "acme", "2" * 16, "b1", "b2", "b3")
    grow(store, "acme", "3" * 16, "c1", "c2", "c3")
    await_true(lambda: bool(runs_of("retrain/pump")), seconds=90, what="the automation")
    (started,) = runs_of("retrain/pump")
    assert started.parameters == {**deployment("retrain/pump").parameters, "recordings": 6, "customer": "acme"}
    assert type(started.parameters["recordings"]) is int
    assert type(started.parameters["customer"]) is str
    assert started.expected_start_time is not None
    assert started.created is not None
    assert started.expected_start_time - started.created > timedelta(seconds=50), "the burst has time to come in"
    assert {"alp", "machine:pump"} <= set(started.tags)
    flow = load_flow_from_entrypoint(deployment("retrain/pump").entrypoint, use_placeholder_flow=False)
    taken = flow.validate_parameters(started.parameters)
    assert (taken["recordings"], taken["customer"], taken["growth"]) == (6, "acme", AT_ONCE.growth)

    # What is trained on asks for nothing more; what comes then starts the next one.
    growth = begin_retraining.fn("pump", store.url, AT_ONCE.growth, only_if_due=True)
    end_retraining.fn(growth, store.url)
    grow(store, "acme", "4" * 16, "d1")
    grow(store, "acme", "5" * 16, "e1", "e2", "e3", "e4")
    await_true(lambda: len(runs_of("retrain/pump")) > 1, seconds=90, what="the second run")
    assert sorted(each.parameters["recordings"] for each in runs_of("retrain/pump")) == [5, 6]


def test_without_a_server_deploying_says_what_it_needs(store: FolderStore) -> None:
    from prefect.settings import temporary_settings

    with temporary_settings(updates={PREFECT_API_URL: None}), pytest.raises(EnvironmentFault, match="PREFECT_API_URL"):
        run(store, PUMPS)


# --- the file ---------------------------------------------------------------------------------------------------


def test_the_file_is_the_named_one_else_that_of_the_folder_else_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_retraining() == Retraining()
    Path("retraining.yaml").write_text("rest_minutes: 2")
    assert load_retraining().rest_minutes == 2
    Path("other.yaml").write_text("growth: {share: 0.5}")
    monkeypatch.setenv("ALP_RETRAINING", "other.yaml")
    assert load_retraining() == Retraining(growth=GrowthPolicy(share=0.5))
    assert load_retraining(Path("retraining.yaml")).rest_minutes == 2
    with pytest.raises(UsageError, match=r"none\.yaml: there is no such file"):
        load_retraining(Path("none.yaml"))


def test_a_changed_policy_is_what_the_next_onboarding_goes_by(store: FolderStore) -> None:
    set_policy(store, GrowthPolicy(recordings=1))
    run(store, PUMPS)
    assert json.loads(store.get("retraining/policy.json")) == {"recordings": 4, "share": 0.2}
