"""The whole platform, from an empty folder to an empty folder, as the guide has it: `make e2e`.

Two plants with compressors (`tests.e2e.recipe`) are added, sent packages and recordings, and taken away again, all by
`alp`; everything between is done by schedules, events and the worker. Pictures of the runs and the platform's logs are
left in the folder that `ALP_E2E_OUT` names, `build/e2e` otherwise.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import Tab, chromium, find_chromium
from tests.e2e import recipe
from tests.e2e.newcomer import ROOT, Newcomer, Run, is_over, lateness_s
from tests.e2e.recipe import DEAF, HANEUL, KEEN, LATE, MACHINE_TYPE, MIRAE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

EVERY_MINUTE = "* * * * *"
REST_MINUTES = 0.5
PATIENCE_S = 420.0
"""For whatever is to happen next: on a quiet machine it takes a minute or two."""
OUT = Path(os.environ.get("ALP_E2E_OUT", ROOT / "build" / "e2e"))
RETRAINING = f"growth: {{recordings: 30, share: 0.2}}\nrest_minutes: {REST_MINUTES}\nsweep: null\n"
"""No sweep: at its hour of the night it would be another retraining."""


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Newcomer]:
    """Somebody with an empty folder, whose platform is stopped whatever happens."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    somebody = Newcomer(tmp_path, monkeypatch)
    try:
        yield somebody
    finally:
        somebody.keep_logs(OUT / "logs")
        somebody.try_alp("down")


def test_the_platform_runs_by_itself(newcomer: Newcomer) -> None:
    start_the_platform(newcomer)
    add_two_plants(newcomer)
    first_packages_are_onboarded_on_schedule(newcomer)
    routed_to_a_without_a_loan(newcomer)
    share_and_grow(newcomer)
    routed_to_b_by_the_loan(newcomer)
    learn_anew_once(newcomer)
    one_challenger_is_promoted_and_one_refused(newcomer)
    hear_a_fault(newcomer)
    every_artifact_lies_in_s3(newcomer)
    take_pictures(newcomer)
    purge_leaves_nothing(newcomer)
    stop_the_platform(newcomer)


# --- up -----------------------------------------------------------------------------------------------------------


def start_the_platform(newcomer: Newcomer) -> None:
    up = newcomer.ask("up")
    assert {each["state"] for each in up["services"]} == {"running"}
    assert up["store"].startswith("s3://")
    assert newcomer.ask("status")["ui"] == up["ui"]


def add_two_plants(newcomer: Newcomer) -> None:
    (newcomer.folder / "retraining.yaml").write_text(RETRAINING)
    for name in (HANEUL, MIRAE):
        when = ("--onboard", EVERY_MINUTE, "--monitor", EVERY_MINUTE)
        newcomer.alp("customer", "add", name, "--machine-type", MACHINE_TYPE, *when, "--keep-source")
    # Nothing is asked of its models, and thirty normals take lite0 more than a minute on a slow machine.
    with file_of(newcomer, HANEUL).open("a") as file:
        file.write("encoder: logmel\n")
    first = {HANEUL: recipe.first_of_haneul(), MIRAE: recipe.first_of_mirae()}
    for name, clips in first.items():
        recipe.write_package(newcomer.folder / f"{name}-1.zip", clips)
        newcomer.alp("customer", "send", name, f"{name}-1.zip")
    planned = newcomer.alp("deploy", "--dry-run")
    assert f"+ onboard/{HANEUL}" in planned
    assert newcomer.call("POST", "/deployments/filter", deployments={"name": {"any_": [HANEUL]}}) == []
    newcomer.alp("deploy")


def file_of(newcomer: Newcomer, customer: str) -> Path:
    """Where a customer is written down."""
    return newcomer.folder / "customers" / f"{customer}.yaml"


# --- onboarding ---------------------------------------------------------------------------------------------------


def first_packages_are_onboarded_on_schedule(newcomer: Newcomer) -> None:
    for name in (HANEUL, MIRAE):
        newcomer.wait_for(
            f"the first package of {name}", lambda name=name: newcomer.completed(package_run(name)), seconds=PATIENCE_S
        )
        on_time(newcomer, f"onboard-{name}-inbox")


def package_run(customer: str) -> str:
    """Pattern of the names that runs of a customer's packages have."""
    return f"onboard-{customer}-[0-9a-f]{{8}}"


def on_time(newcomer: Newcomer, name: str) -> None:
    """Every start of a scheduled flow so far was within a minute of its cron."""
    started = [run for run in newcomer.runs(name) if run["start_time"]]
    assert started, f"no run of {name} has started\n{newcomer.describe()}"
    late = max(started, key=lateness_s)
    assert late["auto_scheduled"]
    newcomer.say(f"{name}: {len(started)} runs, the latest {lateness_s(late):.0f} s after its cron")
    assert lateness_s(late) < 60, f"{name} started {lateness_s(late):.0f} s after its cron\n{newcomer.describe()}"


def champion(newcomer: Newcomer, customer: str, asset: str) -> dict[str, Any]:
    return dict(newcomer.ask("champion", "show", asset, "--customer", customer)["champion"])


def why_not_b(newcomer: Newcomer, asset: str) -> list[str]:
    """What B's criteria say of source normals, of every selection that was made for mirae's machine."""
    keys = [key for key in newcomer.store.list_keys(f"runs/{MIRAE}/") if key.endswith(f"/{asset}/selection.json")]
    found = []
    for key in keys:
        text = newcomer.store.get(key).decode()
        found += re.findall(r'"sentence":\s*"(B: [^"]*source normals[^"]*)"', text)
    return found


def routed_to_a_without_a_loan(newcomer: Newcomer) -> None:
    for asset in (DEAF, KEEN):
        assert champion(newcomer, MIRAE, asset)["engine"] == "a"
        (why,) = why_not_b(newcomer, asset)
        assert why.startswith("B: no: "), why


def share_and_grow(newcomer: Newcomer) -> None:
    """haneul consents, and both send a second package at once."""
    file = file_of(newcomer, HANEUL)
    said = file.read_text()
    assert "share_source: false" in said
    file.write_text(said.replace("share_source: false", "share_source: true"))
    newcomer.alp("deploy")
    second = {MIRAE: recipe.late_of_mirae(), HANEUL: recipe.more_of_haneul()}
    for name, clips in second.items():
        recipe.write_package(newcomer.folder / f"{name}-2.zip", clips)
    for name in second:
        newcomer.alp("customer", "send", name, f"{name}-2.zip")
    for name in second:
        newcomer.wait_for(
            f"the second package of {name}",
            lambda name=name: newcomer.completed(package_run(name), count=2),
            seconds=PATIENCE_S,
        )
        on_time(newcomer, f"onboard-{name}-inbox")


def routed_to_b_by_the_loan(newcomer: Newcomer) -> None:
    assert champion(newcomer, MIRAE, LATE)["engine"] == "b"
    assert any(why.startswith("B: yes: ") for why in why_not_b(newcomer, LATE))


# --- retraining ---------------------------------------------------------------------------------------------------


def retrainings(newcomer: Newcomer) -> list[Run]:
    """Runs of the retraining that are more than a plan."""
    return [run for run in newcomer.runs(f"retrain-{MACHINE_TYPE}") if run["state_type"] != "SCHEDULED"]


def learn_anew_once(newcomer: Newcomer) -> None:
    def ended() -> list[Run] | None:
        runs = retrainings(newcomer)
        return runs if runs and all(is_over(run) for run in runs) else None

    (run,) = newcomer.wait_for("the retraining that the growth asks for", ended, seconds=PATIENCE_S)
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    newcomer.say(f"retrain: {run['state']['message']}")
    assert not run["auto_scheduled"], "it was the growth that started it"
    assert type(run["parameters"]["recordings"]) is int
    assert run["parameters"]["recordings"] >= recipe.SHARED
    assert run["parameters"]["customer"] in (HANEUL, MIRAE)


def one_challenger_is_promoted_and_one_refused(newcomer: Newcomer) -> None:
    (onboarded, promoted), (kept, refused) = (
        newcomer.ask("champion", "list", asset, "--customer", MIRAE)["changes"] for asset in (KEEN, DEAF)
    )
    assert (onboarded["engine"], promoted["engine"], promoted["by"], promoted["crowned"]) == ("a", "b", "retrain", True)
    assert promoted["previous"] == onboarded["version"]
    assert champion(newcomer, MIRAE, KEEN)["version"] == promoted["version"]
    assert (kept["engine"], refused["engine"], refused["by"], refused["crowned"]) == ("a", "b", "retrain", False)
    assert "AUC" in refused["reason"]
    assert champion(newcomer, MIRAE, DEAF)["version"] == kept["version"]
    previous = newcomer.store.list_keys(f"assets/{MIRAE}/{KEEN}/models/{onboarded['version']}/")
    assert any(True for _ in previous), "the model before the champion is kept"


# --- monitoring ---------------------------------------------------------------------------------------------------


def hear_a_fault(newcomer: Newcomer) -> None:
    folder = newcomer.folder / "heard"
    folder.mkdir()
    for name, sound in recipe.sounds(recipe.recordings_of("02", normal=6, faulty=12)).items():
        (folder / name).write_bytes(sound)
    files = [f"heard/{path.name}" for path in sorted(folder.iterdir())]
    newcomer.alp("customer", "send", MIRAE, "--asset", KEEN, *files)
    newcomer.wait_for("the alarm", lambda: alarm_events(newcomer) or None, seconds=PATIENCE_S)

    def all_judged() -> dict[str, Any] | None:
        shown = newcomer.ask("alarms", "show", KEEN, "--customer", MIRAE)
        return shown if shown["standing"]["state"]["judged"] >= len(files) else None

    newcomer.wait_for("the rest of what was sent", all_judged, seconds=PATIENCE_S)
    heard = len(newcomer.completed(f"monitor-{MIRAE}") or [])
    newcomer.wait_for(
        "another look, which raises no other",
        lambda: newcomer.completed(f"monitor-{MIRAE}", count=heard + 1),
        seconds=PATIENCE_S,
    )
    on_time(newcomer, f"monitor-{MIRAE}")
    shown = newcomer.ask("alarms", "show", KEEN, "--customer", MIRAE)
    (alarm,) = shown["alarms"]
    judge = champion(newcomer, MIRAE, KEEN)
    assert (alarm["model_version"], alarm["engine"]) == (judge["version"], "b")
    assert shown["standing"]["state"]["judged"] == len(files)
    assert len(alarm_events(newcomer)) == 1
    assert newcomer.store.exists(alarm["sound"])
    assert newcomer.store.exists(alarm["picture"])
    assert len(retrainings(newcomer)) == 1, "growth that was learnt from asks for nothing more"


def alarm_events(newcomer: Newcomer) -> list[dict[str, Any]]:
    answer = newcomer.call("POST", "/events/filter", filter={"event": {"name": ["alp.alarm"]}}, limit=50)
    return list(answer["events"])


# --- what is left of it -------------------------------------------------------------------------------------------


def every_artifact_lies_in_s3(newcomer: Newcomer) -> None:
    store = newcomer.store
    keys = set(store.list_keys())
    manifests = [key for key in keys if key.endswith("/manifest.json")]
    assert len(manifests) >= 4 + 2, "two packages of each plant, and challengers"
    for key in manifests:
        missing = set(_objects_of(newcomer, key)) - keys
        assert not missing, f"{key} names what is not in the store: {sorted(missing)[:3]}"
    folders = {key.split("/")[0] for key in keys}
    assert {"inbox", "raw", "packages", "assets", "library", "runs", "recordings", "customers"} <= folders
    mine = {path.name for path in newcomer.folder.iterdir() if path.is_dir()} - {".prefect"}
    assert mine == {"alp-platform", "customers", "heard"}, "nothing is left beside the platform"
    page = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(_linked_report(newcomer), timeout=60)
    assert b"<html" in page.read()[:2000]


def _objects_of(newcomer: Newcomer, manifest: str) -> list[str]:
    from tasks.runs import Manifest

    return list(newcomer.store.get_model(manifest, Manifest).objects)


def _linked_report(newcomer: Newcomer) -> str:
    """The first link of a summary among the artifacts, as the UI shows it."""
    artifacts = newcomer.call("POST", "/artifacts/latest/filter", limit=200)
    (summary, *_) = [each for each in artifacts if str(each["key"]).startswith(f"summary-{MIRAE}")]
    (link, *_) = re.findall(r"\(<(http[^>]+/report\.html[^>]*)>\)", summary["data"])
    return str(link)


def take_pictures(newcomer: Newcomer) -> None:
    if find_chromium() is None:
        newcomer.say("no chromium on this machine: no pictures")
        return
    site, login = newcomer.exports["PREFECT_API_URL"].removesuffix("/api"), newcomer.exports["PREFECT_API_AUTH_STRING"]
    shown = {
        "onboard": newcomer.runs(package_run(MIRAE))[-1],
        "retrain": retrainings(newcomer)[0],
        "monitor": newcomer.runs(f"monitor-{MIRAE}-{KEEN}")[-1],
    }
    profile = newcomer.folder / ".browser"
    profile.mkdir()
    with chromium(profile) as tab:
        tab.resize(1280, 900)
        tab.open(site)
        # What the login page keeps once the credentials were pasted.
        tab.evaluate(f"localStorage.setItem('prefect-password', btoa({login!r}))")
        for name, run in shown.items():
            page = f"{site}/v2/runs/flow-run/{run['id']}"
            _picture(tab, page, OUT / f"{name}.png", run["name"], "Completed")
            _picture(tab, f"{page}?tab=Artifacts", OUT / f"{name}-artifacts.png", run["name"], "Completed")
        _picture(tab, f"{site}/v2/runs", OUT / "runs.png", f"onboard-{MIRAE}")
    newcomer.say(f"pictures in {OUT}")


def _picture(tab: Tab, url: str, path: Path, *words: str) -> None:
    tab.open(url)
    tab.wait_for(*words, seconds=60)
    deadline = time.monotonic() + 30
    # What is still being fetched is shown as grey bars that pulse.
    while tab.evaluate("document.querySelectorAll('.animate-pulse').length") and time.monotonic() < deadline:
        time.sleep(0.2)
    tab.picture(path)
    assert path.stat().st_size > 10_000


# --- down ---------------------------------------------------------------------------------------------------------


def purge_leaves_nothing(newcomer: Newcomer) -> None:
    learnt = champion(newcomer, MIRAE, KEEN)["version"]
    purged = purge(newcomer, HANEUL)
    assert f"assets/{MIRAE}/{KEEN}/models/{learnt}/" in {f"{prefix.rstrip('/')}/" for prefix in purged["models"]}
    assert champion(newcomer, MIRAE, KEEN)["engine"] == "a", "who learnt from haneul learns again without it"
    nothing_is_left_of(newcomer, HANEUL)
    purge(newcomer, MIRAE)
    nothing_is_left_of(newcomer, MIRAE)
    assert not [key for key in newcomer.store.list_keys() if key.startswith(("runs/", "assets/", "library/", "raw/"))]


def purge(newcomer: Newcomer, name: str) -> dict[str, Any]:
    """Delete all of a customer; a run that is under way is waited for, as the message says."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        done = newcomer.try_alp("customer", "remove", name, "--purge", "--yes", "--json")
        if done.returncode == 0:
            return dict(json.loads(done.stdout))
        waits = "under way" in done.stdout + done.stderr and time.monotonic() < deadline
        assert waits, f"the purge of {name} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        time.sleep(5)


def nothing_is_left_of(newcomer: Newcomer, name: str) -> None:
    keys = list(newcomer.store.list_keys())
    assert not [key for key in keys if name in key.split("/") or name in key]
    assert not [key for key in keys if name.encode() in newcomer.store.get(key)]
    deployments = newcomer.call("POST", "/deployments/filter", limit=200)
    assert not [each["name"] for each in deployments if each["name"] == name or f"customer:{name}" in each["tags"]]
    assert not [run["name"] for run in newcomer.runs(".*") if name in run["name"] or f"customer:{name}" in run["tags"]]
    artifacts = newcomer.call("POST", "/artifacts/filter", limit=200)
    assert not [each["key"] for each in artifacts if name in str(each["key"])]
    assert not (newcomer.folder / "customers" / f"{name}.yaml").exists()


def stop_the_platform(newcomer: Newcomer) -> None:
    down = newcomer.ask("down")
    assert set(down["stopped"]) == {"s3", "prefect", "worker"}
    status = newcomer.try_alp("status", "--json")
    assert status.returncode == 5
    assert '"running"' not in status.stdout
    assert any((newcomer.folder / "alp-platform" / "s3").iterdir()), "data are kept"
