"""`alp deploy` brings a Prefect server to what the customers' files say, and touches nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, get_client
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Pending, Running

from deployments.customer_removal import remove
from deployments.deploying import Plan, deploy
from deployments.prefect_server import all_automations
from deployments.registering import POOL, delete_deployment
from schemas.customers import Customer
from schemas.errors import EnvironmentFault, InputError, UsageError
from schemas.settings import OnboardSettings
from tasks.customers import load_customers, write_customer
from tasks.keys import check_customer
from tasks.sharing import consent, set_consent
from tasks.store import FolderStore
from tests.deployments.prefect_rig import harness

ROOT = Path(__file__).resolve().parents[2]

ACME: dict[str, Any] = {
    "name": "acme",
    "time_zone": "Asia/Seoul",
    "schedule": {"onboard": "*/10 * * * *", "monitor": None},
    "machine_types": {"pump": None, "mixer": {"en": "mixer"}},
    "alarm": {"clips_per_day": 288},
    "retention": {"recordings_days": 30},
    "contacts": ({"name": "Kim", "phone": "010"},),
}


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    """A server of this module's own."""
    with harness():
        yield


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture(autouse=True)
def empty_server() -> Iterator[None]:
    yield
    with get_client(sync_client=True) as client:
        for automation in all_automations(client):
            client.delete_automation(automation.id)
        for found in client.read_deployments():
            client.delete_deployment(found.id)


def run(store: FolderStore, *said: dict[str, Any], dry_run: bool = False) -> Plan:
    customers = {each["name"]: Customer.model_validate(each) for each in said}
    return deploy(customers, store.url, dry_run=dry_run)


def actions(plan: Plan) -> dict[str, str]:
    """What is to become of customers; of machine types see test_retraining, of zombies test_zombies."""
    others = ("retrain", "zombies")
    return {each.name: each.action for each in plan.changes if not any(name in each.name for name in others)}


def there() -> dict[str, Any]:
    """Deployments, without those of machine types."""
    with get_client(sync_client=True) as client:
        names = {each.id: client.read_flow(each.flow_id).name for each in client.read_deployments()}
        found = {f"{names[each.id]}/{each.name}": each for each in client.read_deployments()}
    return {name: each for name, each in found.items() if not name.startswith("retrain/")}


def test_a_customer_gets_two_deployments_with_all_that_their_flows_need(store: FolderStore) -> None:
    assert actions(run(store, ACME)) == {"onboard/acme": "add", "monitor/acme": "add"}
    onboard, monitor = there()["onboard/acme"], there()["monitor/acme"]

    (schedule,) = onboard.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone, schedule.active) == ("*/10 * * * *", "Asia/Seoul", True)
    assert monitor.schedules == []
    for found in (onboard, monitor):
        assert set(found.tags) == {"alp", "alp-customer", "customer:acme", "machine:pump", "machine:mixer"}
        assert found.work_pool_name == POOL
        assert found.global_concurrency_limit.limit == 1
        assert found.concurrency_options.collision_strategy == "CANCEL_NEW"
        assert "Kim, 010" in found.description
        assert not found.path
        assert not found.pull_steps
    assert (onboard.parameters["inbox"], onboard.parameters["store"]) == ("inbox/acme", store.url)
    settings = OnboardSettings.model_validate(onboard.parameters["settings"])
    assert settings == Customer.model_validate(ACME).settings()
    assert monitor.parameters == {"customer": "acme", "store": store.url, "recordings_days": 30}


def test_the_flows_are_found_by_module_path_and_take_the_parameters(store: FolderStore) -> None:
    run(store, ACME)
    for name, found in there().items():
        loaded = load_flow_from_entrypoint(found.entrypoint, use_placeholder_flow=False)
        assert loaded.name == name.split("/")[0]
        loaded.validate_parameters(found.parameters)


def test_what_stands_as_it_is_wanted_is_not_touched(store: FolderStore) -> None:
    run(store, ACME)
    before = there()
    again = run(store, ACME)
    assert (again.changes, again.as_wanted) == ([], 8), "two of the customer, of each type, of zombies"
    assert {name: each.updated for name, each in there().items()} == {n: each.updated for n, each in before.items()}


def test_a_change_is_shown_from_before_to_after_and_only_it_is_made(store: FolderStore) -> None:
    run(store, ACME)
    changed = ACME | {"schedule": {"onboard": "0 6 * * mon", "monitor": None}, "alarm": {"clips_per_day": 1000}}
    plan = run(store, changed)
    assert actions(plan) == {"onboard/acme": "change"}
    assert plan.changes[0].fields == {
        "schedule": ("*/10 * * * * Asia/Seoul", "0 6 * * mon Asia/Seoul"),
        "parameters.settings.alarm.clips_per_day": (288.0, 1000.0),
    }
    (schedule,) = there()["onboard/acme"].schedules
    assert schedule.schedule.cron == "0 6 * * mon"


def test_who_is_there_to_run_them_is_named(store: FolderStore) -> None:
    run(store, ACME)
    assert run(store, ACME).workers == {}
    with get_client(sync_client=True) as client:
        answer = client.request("POST", f"/work_pools/{POOL}/workers/heartbeat", json={"name": "hall-3"})
        answer.raise_for_status()
    ((name, heard),) = run(store, ACME).workers.items()
    assert (name, heard < timedelta(minutes=1)) == ("hall-3", True)


def test_a_dry_run_shows_the_same_and_changes_nothing(store: FolderStore) -> None:
    shared = ACME | {"share_source": True}
    planned = run(store, shared, dry_run=True)
    assert there() == {}
    assert not consent(store, "acme")
    assert actions(run(store, shared)) == actions(planned)


def test_the_plan_is_shown_before_anything_is_changed(store: FolderStore) -> None:
    seen: list[dict[str, Any]] = []
    deploy({"acme": Customer.model_validate(ACME)}, store.url, dry_run=False, show=lambda plan: seen.append(there()))
    assert seen == [{}]


def test_a_customer_that_left_is_taken_away_and_nobody_else(store: FolderStore) -> None:
    @flow(name="onboard")
    def foreign() -> None: ...

    with get_client(sync_client=True) as client:
        client.create_deployment(client.create_flow(foreign), "by_hand", tags=["alp"])
    run(store, ACME, {"name": "zenith"})
    plan = run(store, ACME)
    assert actions(plan) == {"monitor/zenith": "remove", "onboard/zenith": "remove"}
    assert set(there()) == {"onboard/by_hand", "onboard/acme", "monitor/acme"}


def test_what_an_operator_paused_stays_paused(store: FolderStore) -> None:
    run(store, ACME)
    found = there()["onboard/acme"]
    with get_client(sync_client=True) as client:
        client.pause_deployment(found.id)
        client.update_deployment_schedule(found.id, found.schedules[0].id, active=False)
    assert run(store, ACME).changes == []
    plan = run(store, ACME | {"schedule": {"onboard": "0 6 * * *", "monitor": None}})
    assert plan.changes[0].paused
    found = there()["onboard/acme"]
    assert (found.paused, found.schedules[0].active) == (True, False)


def test_consent_follows_the_file_where_the_file_says(store: FolderStore) -> None:
    set_consent(store, "acme", share_source=True)
    run(store, ACME)
    assert consent(store, "acme"), "not said: as it was"
    plan = run(store, ACME | {"share_source": False})
    assert actions(plan) == {"consent of acme": "change"}
    assert not consent(store, "acme")


def test_a_parameter_that_no_run_could_take_is_refused_by_the_server(store: FolderStore) -> None:
    run(store, ACME)
    found = there()["onboard/acme"]
    with get_client(sync_client=True) as client, pytest.raises(Exception, match=r"clips_per_day|409|Validation"):
        client.create_flow_run_from_deployment(found.id, parameters={"settings": {"alarm": {"clips_per_day": "many"}}})


def test_removing_a_customer_takes_its_file_and_deployments_and_keeps_its_data(
    store: FolderStore, tmp_path: Path
) -> None:
    folder = tmp_path / "customers"
    write_customer(Customer.model_validate(ACME), folder)
    deploy(load_customers(folder), store.url, dry_run=False)
    store.put("raw/acme/1.zip", b"sent")
    removed = remove("acme", folder=folder)
    assert removed.deployments == ["monitor/acme", "onboard/acme"]
    assert removed.file == str(folder / "acme.yaml")
    assert (there(), list(store.list_keys())) == ({}, ["raw/acme/1.zip"])
    with pytest.raises(InputError, match="no such file describes customer acme"):
        remove("acme", folder=folder)


def test_removing_a_customer_waits_for_its_run_and_says_so(store: FolderStore, tmp_path: Path) -> None:
    folder = tmp_path / "customers"
    write_customer(Customer.model_validate(ACME), folder)
    deploy(load_customers(folder), store.url, dry_run=False)
    with get_client(sync_client=True) as client:
        begun = client.create_flow_run_from_deployment(there()["onboard/acme"].id)
        for state in (Pending(), Running()):
            client.set_flow_run_state(begun.id, state)
        with pytest.raises(EnvironmentFault, match=f"{begun.name} is under way"):
            remove("acme", folder=folder)
        assert (folder / "acme.yaml").exists()
        said = []

        def end_it(line: str) -> None:
            said.append(line)
            client.set_flow_run_state(begun.id, Completed())

        removed = remove("acme", folder=folder, say=end_it, patience_s=120)
        ended = client.read_flow_run(begun.id).state
    assert said == [f"Waiting for {begun.name}, which is under way"]
    assert removed.deployments == ["monitor/acme", "onboard/acme"]
    assert ended is not None
    assert ended.is_completed()
    assert there() == {}


def test_what_belongs_to_no_customer_is_deployed_by_prefect_itself_and_left_alone(store: FolderStore) -> None:
    run(store, ACME)
    environment = os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value()), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    own = {"onboard/any_package", "monitor/any_machine"}
    assert set(there()) == own | {"onboard/acme", "monitor/acme"}
    for name in own:
        found = there()[name]
        assert load_flow_from_entrypoint(found.entrypoint, use_placeholder_flow=False).name == name.split("/")[0]
        assert (found.work_pool_name, found.pull_steps or []) == (POOL, [])
        with pytest.raises(UsageError):
            check_customer(found.name)
    assert run(store, ACME).changes == []


def test_a_deployment_goes_once_no_run_of_it_is_under_way_and_that_run_can_end(store: FolderStore) -> None:
    run(store, ACME)
    with get_client(sync_client=True) as client:
        begun = client.create_flow_run_from_deployment(there()["onboard/acme"].id).id
        for state in (Pending(), Running()):
            client.set_flow_run_state(begun, state)
        with pytest.raises(EnvironmentFault, match="is under way"):
            run(store)
        left = there()
        assert [left[name].paused for name in ("onboard/acme", "monitor/acme")] == [False, False]
        told = []
        with pytest.raises(EnvironmentFault, match="is under way"):
            delete_deployment(client, left["onboard/acme"].id, patience_s=0.1, say=told.append)
        assert len(told) == 1
        client.set_flow_run_state(begun, Completed())
        ended = client.read_flow_run(begun).state
        assert ended is not None
        assert ended.is_completed()
    run(store)
    assert there() == {}
