"""ingest: a package path or store key → `Package`; the raw upload is kept as it came."""

from __future__ import annotations

from prefect import flow

from schemas.references import Package
from schemas.settings import OnboardSettings
from tasks.intake import receive_package
from tasks.showing import shown


@shown(customer="{customer}")
@flow(name="ingest", flow_run_name="ingest-{customer}")
def ingest(source: str, customer: str, store: str, settings: OnboardSettings) -> Package:
    """Receive what a customer sent."""
    return receive_package(source, customer, store, settings)
