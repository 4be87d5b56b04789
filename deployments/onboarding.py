"""Run the onboarding flow in this process and say how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.errors import EnvironmentFault
from schemas.references import AssetResult, OnboardResult
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.runs import Manifest
from tasks.store import ObjectStore, open_store


@dataclass(frozen=True)
class Outcome:
    """How an onboarding ended; `manifest` is None after a dry run, which files nothing."""

    result: OnboardResult
    manifest: Manifest | None
    store: ObjectStore

    @property
    def bad_input(self) -> bool:
        """Whether the contract was broken, rather than the sound too poor."""
        return self.manifest is not None and self.manifest.quality.bad_input

    @property
    def package_page(self) -> str | None:
        """Where a person finds the package's page."""
        if self.manifest is None:
            return None
        return self.store.location(keys.run(self.result.customer, self.result.run_id, "report.html"))

    def files_of(self, asset: AssetResult) -> dict[str, str]:
        """Where a person finds what was written for one asset: report, scores and threshold; empty in a dry run."""
        if asset.report is None:
            return {}
        folder = asset.report.rpartition("/")[0]
        names = {"report": "report.html", "scores": "scores.csv", "threshold": "threshold.json"}
        return {what: self.store.location(f"{folder}/{name}") for what, name in names.items()}

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        document = self.result.model_dump(mode="json")
        for line, asset in zip(document["assets"], self.result.assets, strict=True):
            line["report"] = self.files_of(asset).get("report")
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
    state = _run_flow(source, customer, shelf.url, settings, dry_run)
    result: OnboardResult = state.result(raise_on_failure=state.name != "Rejected")
    manifest_key = keys.run(customer, result.run_id, "manifest.json")
    manifest = shelf.get_model(manifest_key, Manifest) if not dry_run else None
    return Outcome(result=result, manifest=manifest, store=shelf)


def _run_flow(source: str, customer: str, store: str, settings: OnboardSettings, dry_run: bool) -> Any:
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.onboard import onboard

    if server := PREFECT_API_URL.value():
        _check_server(server)
    # Nobody waits for the heartbeats of a server that ends with this process, and each flow pays a second for them.
    alone = {} if server else {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(updates=alone):
        return onboard(source, customer, store, settings, dry_run=dry_run, return_state=True)


def _check_server(url: str) -> None:
    from prefect import get_client

    with get_client(sync_client=True) as client:
        fault = client.api_healthcheck()
    if fault is not None:
        raise EnvironmentFault(
            f"the Prefect server at {url} does not answer ({fault}); start it with `prefect server start`,"
            " or unset PREFECT_API_URL to run without one"
        )
