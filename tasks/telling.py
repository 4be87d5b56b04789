"""Tell people of what happened, once: `monitor/told/<name>.json` notes that they were told.

The note is written after the server has the event. A process that is killed in between tells it again, and the server
hears it once (`tasks.events`). What nobody could be told stays untold: whoever looks next with a server tells it, and
its message says how late it is. Only what is older than `TELL_WITHIN` by then is no news any more.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from tasks import keys
from tasks.events import Happening, Tell, server_url, tell_server
from tasks.store import ObjectStore

TELL_WITHIN = timedelta(days=7)
"""Of an alarm that was judged longer ago than this nobody is told any more; it stands in its file."""


class Told(BaseModel):
    """`monitor/told/<id>.json`: that the server knows of something, or that it is too old to be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    event_id: str
    server: bool = Field(description="False: nobody was told, and it is too old by now.")


def told_key(customer: str, asset_id: str, name: str) -> str:
    """Where the note lies that something was told."""
    return keys.monitor(customer, asset_id, f"told/{name}.json")


def tell_once(
    store: ObjectStore, customer: str, asset_id: str, name: str, happening: Happening, tell: Tell
) -> str | None:
    """Tell the server of a happening and note that it was told; why the server does not take it, or None.

    Raises
    ------
    EnvironmentFault
        The server cannot be told now; nothing is noted, as where it does not take this one.
    """
    refusal = tell(happening)
    if refusal is None:
        _note(store, customer, asset_id, name, happening, server=True)
    return refusal


def give_up(store: ObjectStore, customer: str, asset_id: str, name: str, happening: Happening) -> None:
    """Note of a happening that it is too old to be told."""
    _note(store, customer, asset_id, name, happening, server=False)


def is_too_old(judged_at: datetime, *, now: datetime) -> bool:
    """Whether what was judged then is no news any more."""
    return now - judged_at > TELL_WITHIN


def _note(store: ObjectStore, customer: str, asset_id: str, name: str, happening: Happening, *, server: bool) -> None:
    told = Told(at=datetime.now(UTC), event_id=str(happening.event_id), server=server)
    store.put_model(told_key(customer, asset_id, name), told)


def configured_tell() -> Tell | None:
    """How the configured Prefect server is told; None where none is configured."""
    return tell_server if server_url() else None
