"""Tell the Prefect server that something happened, exactly once.

`prefect.events.emit_event` hands an event to a thread and never says whether it arrived, so an alarm raised just before
the server went away would be lost in silence. Here the event is posted to the server's own events endpoint, which
answers once it has it. Its id is a hash of what happened: an event that was posted before, by a process that was
killed before it could note so, is found by its id, or dropped by the server (which knows the ids of the last five
minutes), and no automation fires twice.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import EnvironmentFault

_TIMEOUT_S = 20.0
"""Of one request. Whoever listens to a machine must not wait longer for a server; it is asked again later."""
_CREDENTIALS = re.compile(r"://[^/\s@]*@")
_OF_ALL = frozenset({401, 403, 404, 405, 407, 408, 429})
"""Refusals that any event would meet: a wrong password or address, or too many requests at once."""
_NAMES = uuid.UUID("a1b7c0de-5e1f-4d0a-9a57-3c2f6a0c91e4")


class Happening(BaseModel):
    """Something that people or automations may want to hear of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: str = Field(description="Its kind, such as alp.alarm.")
    key: str = Field(description="What makes it the same one: told twice, it is heard once.")
    resource: str = Field(description="What it happened to, such as alp.asset.acme.fan-00.")
    resource_name: str
    labels: dict[str, str] = Field(default_factory=dict, description="More of the resource, for triggers to match.")
    payload: dict[str, Any]

    @property
    def event_id(self) -> uuid.UUID:
        """The same for the same happening."""
        return uuid.uuid5(_NAMES, f"{self.event}\0{self.resource}\0{self.key}")


class Tell(Protocol):
    """Tells of a happening; raises EnvironmentFault where nobody could be told now.

    Gives None once the server has it, or why the server takes others but not this one.
    """

    def __call__(self, happening: Happening) -> str | None: ...


def server_url() -> str | None:
    """The Prefect server that is configured; None where a run starts one of its own that ends with it."""
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value()


def without_credentials(text: str) -> str:
    """The text with `user:password@` taken out of every URL in it."""
    return _CREDENTIALS.sub("://", text)


def shown_server() -> str:
    """The configured server's URL as it may be printed."""
    return without_credentials(server_url() or "")


def asset_resource(customer: str, asset_id: str) -> str:
    """What events of an asset are about; neither part holds a dot."""
    return f"alp.asset.{customer}.{asset_id}"


def tell_server(happening: Happening) -> str | None:
    """Post a happening to the configured server, unless it knows of it; why the server does not take this one, or None.

    Raises
    ------
    EnvironmentFault
        The server does not answer, or would take none.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.events import Event
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    event = Event(
        event=happening.event,
        resource={
            "prefect.resource.id": happening.resource,
            "prefect.resource.name": happening.resource_name,
            **happening.labels,
        },
        payload=happening.payload,
        id=happening.event_id,
    )
    try:
        with (
            temporary_settings(updates={PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": _TIMEOUT_S}) as client,
        ):
            if not _is_known(client, event.id):
                client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
    except (OSError, RuntimeError, httpx.HTTPError) as error:
        status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None
        if status is not None and 400 <= status < 500 and status not in _OF_ALL:
            return f"the Prefect server at {shown_server()} refuses it with status {status}"
        why = without_credentials(f"{type(error).__name__}: {error}")
        raise EnvironmentFault(f"the Prefect server at {shown_server()} could not be told ({why})") from error
    return None


def _is_known(client: Any, event_id: uuid.UUID) -> bool:
    wanted: Mapping[str, Any] = {"filter": {"id": {"id": [str(event_id)]}}, "limit": 1}
    answer = client.request("POST", "/events/filter", json=wanted)
    answer.raise_for_status()
    return bool(answer.json()["events"])
