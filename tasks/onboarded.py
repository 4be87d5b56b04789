"""Tell the Prefect server that a package was onboarded: the event `alp.onboarded`, about `alp.customer.<name>`.

It is what an automation waits for that wants to know of each onboarding, or of none for too long
(`deployments/examples/alerts.yaml`). Runs of the same package, settings and code are one onboarding and are told once.
Nobody's onboarding fails for want of it: a server that cannot be told is named in the run's log.
"""

from __future__ import annotations

from schemas.errors import EnvironmentFault
from tasks.events import Happening
from tasks.logbook import note
from tasks.runs import Manifest
from tasks.telling import configured_tell

ONBOARDED_EVENT = "alp.onboarded"


def customer_resource(customer: str) -> str:
    """What events of a customer as a whole are about."""
    return f"alp.customer.{customer}"


def describe_onboarding(manifest: Manifest) -> Happening:
    """The event of a run that was filed, whatever its verdict."""
    run, result = manifest.run, manifest.result
    return Happening(
        event=ONBOARDED_EVENT,
        key=run.run_id,
        resource=customer_resource(run.customer),
        resource_name=run.customer,
        labels={"alp.verdict": str(result.verdict)},
        payload={
            "event": ONBOARDED_EVENT,
            "customer": run.customer,
            "package": run.package_id,
            "run": run.run_id,
            "verdict": str(result.verdict),
            "machines": len(result.assets),
            "quarantined": len(result.quarantined),
        },
    )


def tell_of_onboarding(manifest: Manifest) -> None:
    """Tell the configured server, if there is one."""
    if (tell := configured_tell()) is None:
        return
    try:
        refusal = tell(describe_onboarding(manifest))
    except EnvironmentFault as error:
        refusal = str(error)
    if refusal is not None:
        note(f"Nobody was told that package {manifest.package.short_id} was onboarded: {refusal}")
