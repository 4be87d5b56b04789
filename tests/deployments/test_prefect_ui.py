"""What an operator sees in the Prefect UI, in a real browser, at the width of a desk and of a phone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun

from flows.onboard import onboard
from schemas.settings import OnboardSettings
from tests.chromium import Tab, chromium, find_chromium
from tests.deployments.prefect_rig import prefect_server

WINDOWS = {"phone": (390, 844), "desk": (1280, 900)}
SETTINGS = OnboardSettings(encoder="logmel")


@dataclass(frozen=True)
class Seen:
    """A server's UI, a package that was onboarded there, and one that could not be read."""

    site: str
    store: Path
    onboarded: FlowRun
    failed: FlowRun
    artifacts: dict[str, str]
    """Id by what it is called before the customer's name."""

    @property
    def whose(self) -> str:
        """Customer and package, as names of runs and artifacts end."""
        return self.onboarded.name.removeprefix("onboard-")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, toy_zip: Path) -> Iterator[Seen]:
    if find_chromium() is None:
        pytest.skip("no chromium on this machine; install Debian's package chromium to look at pages")
    store, home = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("server")
    with prefect_server(home) as url:
        states = [
            onboard(source, "acme-ulsan", store.as_uri(), SETTINGS, return_state=True)
            for source in (str(toy_zip), "inbox/acme-ulsan/gone.zip")
        ]
        assert [state.type.value for state in states] == ["COMPLETED", "FAILED"]
        with get_client(sync_client=True) as client:
            onboarded, failed = (client.read_flow_run(str(state.state_details.flow_run_id)) for state in states)  # type: ignore[arg-type]
            of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[onboarded.id]))
            artifacts = {
                str(each.key).partition("-")[0]: str(each.id) for each in client.read_artifacts(artifact_filter=of_run)
            }
        yield Seen(url.removesuffix("/api"), store, onboarded, failed, artifacts)


@pytest.fixture(scope="module")
def browser(seen: Seen, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture(params=WINDOWS)
def tab(browser: Tab, seen: Seen, request: pytest.FixtureRequest) -> Iterator[Tab]:
    """A window, whose pages are to fit it, and to ask the server for nothing in vain."""
    browser.resize(*WINDOWS[request.param])
    browser.faults.clear()
    yield browser
    assert [fault for fault in browser.faults if "/api/" in fault or "://" not in fault] == []
    assert browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_a_run_s_page_says_what_ran_for_whom_and_how_it_ended(tab: Tab, seen: Seen) -> None:
    tab.open(f"{seen.site}/v2/runs/flow-run/{seen.onboarded.id}")
    page = tab.wait_for(seen.onboarded.name, "Completed", "alp")
    assert "Failed" not in page
    tab.open(f"{seen.site}/v2/runs/flow-run/{seen.onboarded.id}?tab=Details")
    tab.wait_for("alp", "customer:acme-ulsan", "machine:pump")


def test_the_stages_and_their_steps_read_as_sentences(tab: Tab, seen: Seen) -> None:
    tab.open(f"{seen.site}/v2/runs/flow-run/{seen.onboarded.id}?tab=SubflowRuns")
    tab.wait_for(f"report-{seen.whose}", f"score-{seen.whose}")
    tab.open(f"{seen.site}/v2/runs/flow-run/{seen.onboarded.id}?tab=TaskRuns")
    tab.wait_for("Publish the summary of toy.zip")


def test_a_run_s_artifacts_are_its_summary_and_its_tables(tab: Tab, seen: Seen) -> None:
    tab.open(f"{seen.site}/v2/runs/flow-run/{seen.onboarded.id}?tab=Artifacts")
    tab.wait_for(*(f"{name}-{seen.whose}" for name in ("summary", "selection", "scores", "problems")))


def test_the_summary_says_what_came_out_and_where_its_pages_are(tab: Tab, seen: Seen) -> None:
    tab.open(f"{seen.site}/v2/artifacts/artifact/{seen.artifacts['summary']}")
    tab.wait_for("toy.zip: accepted", "pump 00", "AUC", "not certified", "Engine: A (logmel)")
    tab.wait_until(
        lambda _: tab.evaluate("document.querySelectorAll('h1, h2').length") >= 3, "the markdown to be rendered"
    )
    page = next(seen.store.glob("runs/acme-ulsan/*/pump-00/report.html"))
    tab.wait_for(str(page))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("selection", ("target_normals", "normal recordings of this machine")),
        ("scores", ("clip_id", "pump_00", "severity")),
        ("problems", ("remedy", "pump 00 has 3 good normal recordings")),
    ],
)
def test_a_table_is_one(tab: Tab, seen: Seen, name: str, words: tuple[str, ...]) -> None:
    tab.open(f"{seen.site}/v2/artifacts/artifact/{seen.artifacts[name]}")
    tab.wait_for(*words)
    assert tab.evaluate("document.querySelectorAll('table tbody tr').length") >= 1


@pytest.mark.parametrize("place", ["", "?tab=Details"])
def test_a_failed_run_says_what_to_do_in_its_log_and_its_details(tab: Tab, seen: Seen, place: str) -> None:
    assert seen.failed.state is not None
    remedy = str(seen.failed.state.message)
    assert "no such file or folder" in remedy
    tab.open(f"{seen.site}/v2/runs/flow-run/{seen.failed.id}{place}")
    page = tab.wait_for("Failed", remedy)
    assert "encountered an exception" not in page


@pytest.mark.parametrize("tab", ["desk"], indirect=True)
def test_the_older_ui_where_links_in_logs_lead_says_it_too(tab: Tab, seen: Seen) -> None:
    assert seen.failed.state is not None
    tab.open(f"{seen.site}/runs/flow-run/{seen.failed.id}")
    tab.wait_for(seen.failed.name, "customer:acme-ulsan", str(seen.failed.state.message))
