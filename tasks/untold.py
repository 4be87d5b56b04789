"""Tell people of everything of an asset that nobody was told yet: alarms, drift, outages; each once.

`tasks.telling` says what "once" means. Messages are made when they are told, in the language of the asset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from schemas.settings import Environment
from tasks.alarms import Alarm, describe_happening, untold_alarms
from tasks.covering import untold_coverage
from tasks.drifting import untold_drift
from tasks.events import Happening, Tell
from tasks.store import ObjectStore
from tasks.telling import give_up, is_too_old, tell_once
from tasks.watch_news import News


class Telling(NamedTuple):
    """What telling brought: how much the server was told, and what it refuses to be told, and why."""

    told: int
    refused: tuple[str, ...]


def tell_of_all(
    store: ObjectStore,
    customer: str,
    asset_id: str,
    tell: Tell | None,
    on_news: Callable[[News], None] = lambda news: None,
) -> Telling:
    """Tell of every alarm, drift and outage of which nobody was told yet, one that is refused keeping back no other.

    Raises
    ------
    EnvironmentFault
        The server cannot be told now.
    """
    told, refused = 0, []
    for name, happening, alarm in _untold(store, customer, asset_id, on_news):
        if tell is None:
            on_news(News("nobody_told", alarm=alarm, text=name))
            continue
        refusal = tell_once(store, customer, asset_id, name, happening, tell)
        if refusal is None:
            told += 1
            on_news(News("told", alarm=alarm, text=name))
        else:
            refused.append(f"{happening.event} {name}: {refusal}")
            on_news(News("not_told", alarm=alarm, text=refused[-1]))
    return Telling(told, tuple(refused))


def _untold(
    store: ObjectStore, customer: str, asset_id: str, on_news: Callable[[News], None]
) -> Iterator[tuple[str, Happening, Alarm | None]]:
    """By which name, what, and the alarm if it is one; what is too old is noted as such."""
    now, link = datetime.now(UTC), link_maker(store)
    for alarm in untold_alarms(store, customer, asset_id):
        happening = describe_happening(alarm, link=link, now=now)
        if is_too_old(alarm.judged_at, now=now):
            give_up(store, customer, asset_id, alarm.alarm_id, happening)
            on_news(News("too_old", alarm=alarm, text=alarm.alarm_id))
        else:
            yield alarm.alarm_id, happening, alarm
    for happening in (untold_drift(store, customer, asset_id), untold_coverage(store, customer, asset_id)):
        if happening is not None:
            yield happening.key, happening, None


def link_maker(store: ObjectStore) -> Callable[[str], str]:
    """Gives the address of an object: below `ALP_LINK_BASE` where that is set, else as the store has it."""
    base = Environment().link_base
    return store.uri if base is None else lambda key: f"{base.rstrip('/')}/{key}"
