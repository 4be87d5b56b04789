"""Run flows in this process, and say how an onboarding ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schemas.errors import EnvironmentFault
from schemas.references import AssetResult, OnboardResult
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.events import server_url
from tasks.heartbeats import own_signs_only
from tasks.report.conclusion import Conclusion, read_conclusion
from tasks.runs import REJECTED, Manifest
from tasks.store import ObjectStore, open_store


@dataclass(frozen=True)
class Outcome:
    """How an onboarding ended; a dry run's manifest was filed nowhere."""

    manifest: Manifest
    store: ObjectStore
    dry_run: bool

    @property
    def result(self) -> OnboardResult:
        """What the flow found, asset by asset."""
        return self.manifest.result

    @property
    def bad_input(self) -> bool:
        """Whether the contract was broken, rather than the sound too poor."""
        return self.manifest.quality.bad_input

    @property
    def package_page(self) -> str | None:
        """Where a person finds the package's page."""
        if self.dry_run:
            return None
        return self.store.location(keys.run(self.result.customer, self.result.run_id, "report.html"))

    def files_of(self, asset: AssetResult) -> dict[str, str]:
        """Where a person finds what was written for one asset: report, scores and threshold; empty in a dry run."""
        if asset.report is None:
            return {}
        folder = asset.report.rpartition("/")[0]
        names = {"report": "report.html", "scores": "scores.csv", "threshold": "threshold.json"}
        return {what: self.store.location(f"{folder}/{name}") for what, name in names.items()}

    def conclusion_of(self, asset: AssetResult) -> Conclusion | None:
        """What the asset's page concludes; None in a dry run."""
        return read_conclusion(self.store, asset)

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        document = self.result.model_dump(mode="json")
        for line, asset in zip(document["assets"], self.result.assets, strict=True):
            concluded = self.conclusion_of(asset)
            line["report"] = self.files_of(asset).get("report")
            line["concluded"] = None if concluded is None else concluded.model_dump(mode="json")
        return document


def run_onboarding(source: str, customer: str, store: str, settings: OnboardSettings, *, dry_run: bool) -> Outcome:
    """Run the `onboard` flow here, against the Prefect server that is configured, or an ephemeral one.

    Raises
    ------
    AlpError
        Whatever a step raised.
    EnvironmentFault
        The configured Prefect server does not answer.
    """
    keys.check_customer(customer)
    shelf = open_store(store)
    from flows.onboard import onboard

    state = run_flow_here(onboard, source, customer, shelf.url, settings, dry_run=dry_run)
    manifest: Manifest = state.result(raise_on_failure=state.name != REJECTED)
    return Outcome(manifest=manifest, store=shelf, dry_run=dry_run)


def run_flow_here(flow: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Run a flow in this process, on the Prefect server that is configured or an ephemeral one; its final state.

    Raises
    ------
    EnvironmentFault
        The configured server does not answer, or none can be started here.
    """
    if server := server_url():
        check_server(server)
    try:
        with own_signs_only():
            return flow(*arguments, **options, return_state=True)
    except RuntimeError as error:
        # What a step raises comes back in the state; this is Prefect failing to start or to keep its database.
        raise EnvironmentFault(
            f"Prefect cannot run here: {error}; on a busy machine try again, or start a server (prefect server start)"
            " and set PREFECT_API_URL; else look at PREFECT_HOME and the disk"
        ) from error


def check_server(url: str) -> None:
    """Raise EnvironmentFault where the Prefect server at `url` does not answer."""
    from prefect import get_client

    from tasks.events import without_credentials

    with get_client(sync_client=True) as client:
        fault = client.api_healthcheck()
    if fault is not None:
        server, error = without_credentials(url), without_credentials(str(fault))
        raise EnvironmentFault(
            f"the Prefect server at {server} does not answer ({error}); start it (the local platform's with `alp up`,"
            " another with `prefect server start`), or set PREFECT_API_URL to one that runs"
        )
