"""Tell people of what happened, once: `monitor/told/<name>.json` notes that they were told.

The note is written after the server has the event. A process that is killed in between tells it again, and the server
hears it once (`tasks.events`).
"""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from tasks import keys
from tasks.events import Happening, Tell, server_url, tell_server
from tasks.store import ObjectStore


class Told(BaseModel):
    """`monitor/told/<id>.json`: that the server knows of an alarm or a drift, or that there was none to be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    event_id: str
    server: bool = Field(description="False: no Prefect server was configured, so nobody was told.")


def told_key(customer: str, asset_id: str, name: str) -> str:
    """Where the note lies that something was told."""
    return keys.monitor(customer, asset_id, f"told/{name}.json")


def tell_once(
    store: ObjectStore, customer: str, asset_id: str, name: str, happening: Happening, tell: Tell | None
) -> bool:
    """Tell the server of a happening and note that it was told; whether there is a server.

    `tell` None: there is none, which is noted, so that a server that comes later is not told old news.

    Raises
    ------
    EnvironmentFault
        The server cannot be told now; nothing is noted.
    """
    if tell is not None:
        tell(happening)
    told = Told(at=datetime.now(UTC), event_id=str(happening.event_id), server=tell is not None)
    store.put_model(told_key(customer, asset_id, name), told)
    return tell is not None


def configured_tell() -> Tell | None:
    """How the configured Prefect server is told; None where none is configured."""
    return tell_server if server_url() else None
