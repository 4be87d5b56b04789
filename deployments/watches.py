"""Automations that `alp deploy` makes: what is there, what differs from what is wanted, and how it is written.

Those of ours are told from others by a tag and a name, both; of two of one name the second is taken away.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from deployments.prefect_server import all_automations
from deployments.registering import all_deployments, changed_fields, flat

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import Automation, AutomationCore


class Watch(Protocol):
    """An automation as it is to be."""

    @property
    def name(self) -> str:
        """As Prefect shows it."""

    @property
    def deployment(self) -> str | None:
        """Full name of what it starts; None where it starts nothing."""

    def automation(self, deployment_id: UUID | None, *, enabled: bool = True) -> AutomationCore:
        """As the server takes it."""


def watches_there(client: SyncPrefectClient, known: Mapping[str, re.Pattern[str]]) -> dict[str, list[Automation]]:
    """Automations of ours on the server, by name; a name may be there more than once.

    known: how their names are built, by the tag that they carry.
    """
    found: dict[str, list[Automation]] = {}
    for each in all_automations(client):
        if any(tag in each.tags and pattern.fullmatch(each.name) for tag, pattern in known.items()):
            found.setdefault(each.name, []).append(each)
    return found


def watch_differences(
    there: Automation | None, watch: Watch, deployments: Mapping[UUID, str]
) -> dict[str, tuple[Any, Any]]:
    """What differs between the stored automation and the wanted one; nothing where it stands as it is wanted.

    deployments: their full names.
    """
    if watch.deployment is None:
        after = _facts(watch.automation(None), deployments)
    else:
        ids = {name: deployment_id for deployment_id, name in deployments.items()}
        # Before a deployment is made it has no id yet.
        target = ids.get(watch.deployment, uuid.uuid4())
        after = _facts(watch.automation(target), {**deployments, target: watch.deployment})
    return changed_fields({} if there is None else _facts(there, deployments), after)


def write_watches(client: SyncPrefectClient, watches: Iterable[Watch], known: Mapping[str, re.Pattern[str]]) -> None:
    """Make each automation, or bring the one of that name to what is wanted, paused as it was; `known` as above."""
    watches = list(watches)
    if not watches:
        return
    deployments, there = all_deployments(client), watches_there(client, known)
    for watch in watches:
        first = next(iter(there.get(watch.name, [])), None)
        target = deployments[watch.deployment].id if watch.deployment is not None else None
        wanted = watch.automation(target, enabled=first is None or first.enabled)
        if first is None:
            client.create_automation(wanted)
        else:
            # The client's own way leaves out what is as by default, and with it what should become so.
            document = wanted.model_dump(mode="json", exclude={"owner_resource"})
            client.request("PUT", f"/automations/{first.id}", json=document).raise_for_status()


def _facts(automation: AutomationCore, deployments: Mapping[UUID, str]) -> dict[str, Any]:
    """All that is compared and shown, flat, by name; what is empty is left out."""
    trigger = automation.trigger.model_dump(mode="json", exclude={"id"})
    actions = [action.model_dump(mode="json") for action in automation.actions]
    for document, action in zip(actions, automation.actions, strict=True):
        deployment_id = document.pop("deployment_id", None)
        document["starts"] = deployments.get(getattr(action, "deployment_id", None), deployment_id)
    facts = {
        "description": automation.description,
        "tags": ", ".join(sorted(automation.tags)),
        **flat("trigger", trigger),
        **{name: value for place, one in enumerate(actions) for name, value in flat(_numbered(place), one).items()},
    }
    return {name: sorted(value) if isinstance(value, list) else value for name, value in facts.items() if value}


def _numbered(place: int) -> str:
    return "action" if place == 0 else f"action {place + 1}"
