"""In which order a store is read while runs write to it.

A run writes what is pointed to before it writes what points there: clips before the report that files the package,
models before `champion.json`, everything before `manifest.json`. Whoever reads the other way round, what was written
last first, finds that all that a pointer names is there, however many runs go on meanwhile: it was written before the
pointer was read, and stays. What comes in later points to what is in the backup, or is not in it itself.

So a store is listed group by group, each listing begun when the group before is read; and it is filled in the opposite
order, so that a restore that is cut off leaves no pointer to what is not there yet.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple


class Group(NamedTuple):
    """Keys that are read together."""

    prefix: str
    """Below which they lie."""
    pattern: re.Pattern[str]


def _group(prefix: str, below: str) -> Group:
    return Group(prefix, re.compile(re.escape(prefix) + below))


POINTERS = (
    _group("customers/", r"[^/]+/inbox\.json"),
    _group("retraining/", r".+"),
    _group("runs/", r"[^/]+/[^/]+/manifest\.json"),
    _group("library/", r".+"),
    # What follows from the rows of a watch, then the rows.
    _group("assets/", r"[^/]+/[^/]+/(?:alarms|monitor)/.+\.json"),
    _group("assets/", r"[^/]+/[^/]+/monitor/.+\.parquet"),
    _group("assets/", r"[^/]+/[^/]+/champion\.json"),
    _group("assets/", r"[^/]+/[^/]+/(?:(?:succession|corrections)\.json|ledger\.parquet|models/[^/]+/engine\.json)"),
    _group("packages/", r"[^/]+/[^/]+/quality\.json"),
)
"""What points elsewhere, in the order of reading. All else is read last, consent too, on which champions rest."""

DROPPED = ("inbox/", "recordings/")
"""What others drop and take away as they like; no object of ALP's points there."""
_CACHES = ("embeddings/", "checks/")
"""What is computed again where it is missing, or was only tried out."""


def is_kept(key: str, *, without: Iterable[str] = ()) -> bool:
    """Whether a key belongs into a backup. `without`: prefixes that were asked to be left out."""
    return not key.startswith((*_CACHES, *without))


def points(key: str) -> bool:
    """Whether a key is one of `POINTERS`."""
    return any(group.pattern.fullmatch(key) for group in POINTERS)


def may_be_named(key: str, found: Collection[str]) -> bool:
    """Whether some key of `found` may point to `key`: not to what others drop, nor into a run that is not finished."""
    if key.startswith(DROPPED):
        return False
    is_of_run = key.startswith("runs/") and key.count("/") > 2
    return not is_of_run or f"{'/'.join(key.split('/')[:3])}/manifest.json" in found


def in_writing_order(keys: Iterable[str]) -> Iterator[list[str]]:
    """Keys in the order in which a store is filled: what points to nothing, then the last group of `POINTERS` …"""
    left = list(keys)
    found: list[list[str]] = []
    for group in POINTERS:
        found.append([key for key in left if group.pattern.fullmatch(key)])
        left = [key for key in left if not group.pattern.fullmatch(key)]
    yield left
    yield from reversed(found)
