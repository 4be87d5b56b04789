"""What a store holds, in a form in which a run that was disturbed and one that was not are the same.

Compared is every object, byte for byte, but for what says when and by whom it was made: times, ids of Prefect's runs,
tokens, the store's own marks of versions and its address, how often something was tried, and which stages served again.

Of packages that were onboarded in another order (`whatever_order`) a run is called after its package, since its id
holds a snapshot of what the customer's other packages had brought by then; and what the gate found is compared as it is
filed with the package: a run that goes on under another id finds it there and keeps no copy of its own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from tasks.store import ObjectStore

TextT = TypeVar("TextT", str, bytes)

_TIMES = {"at", "began", "since", "trained_at"}
_MAKERS = {"circumstances", "etag", "prefect_run_id", "store", "token"}
_TRIES = {"attempts", "reached", "reused"}
VARIES = frozenset(_TIMES | _MAKERS | _TRIES)
"""Names in JSON whose values tell of the making and the place, not of what was made."""
_OF_THE_GATE = re.compile(r"runs/[^/]+/[^/]+/((standard|metadata|quality)\.(parquet|json)|heard/.*)")
_RUN = re.compile(r"runs/[^/]+/([0-9a-f]{16})/")


def outputs(store: ObjectStore, *, whatever_order: bool = False) -> dict[str, bytes]:
    """Every object by key, as far as it must be the same however often the making of it was cut off."""
    kept = (key for key in store.list_keys() if not (whatever_order and _OF_THE_GATE.fullmatch(key)))
    found = {key: store.get(key) for key in kept}
    names = {store.url: "<store>"} | (_names_of_runs(found) if whatever_order else {})
    same = {_renamed(key, names): _renamed(_without_times(key, data), names) for key, data in found.items()}
    return {key: _with_new_checksums(key, data, same) for key, data in same.items()}


def differing(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> dict[str, str]:
    """Keys under which two stores differ, and how; empty where they hold the same."""
    keys = (key for key in sorted({*one, *other}) if one.get(key) != other.get(key))
    return {key: _told(key, one.get(key), other.get(key)) for key in keys}


def _told(key: str, one: bytes | None, other: bytes | None) -> str:
    """What is different under a key; of JSON that both have, the first places."""
    if one is None or other is None:
        return "only in the second" if one is None else "only in the first"
    if not key.endswith(".json"):
        return "another content"
    return "another content: " + "; ".join(itertools.islice(_places(json.loads(one), json.loads(other), ""), 5))


def _places(one: Any, other: Any, path: str) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            yield from _places(one.get(name), other.get(name), f"{path}/{name}")
    elif one != other:
        yield f"{path}: {one!r:.80} and {other!r:.80}"


def half_runs(store: ObjectStore) -> set[str]:
    """Folders of runs that were begun and have no manifest."""
    folders: dict[str, bool] = {}
    for key in store.list_keys("runs/"):
        if (match := _RUN.match(key)) is not None:
            folders[match.group()] = folders.get(match.group(), False) or key == f"{match.group()}manifest.json"
    return {folder for folder, is_whole in folders.items() if not is_whole}


def _without_times(key: str, data: bytes) -> bytes:
    if not key.endswith(".json"):
        return data
    return json.dumps(_blank(json.loads(data)), sort_keys=True).encode()


def _blank(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: None if name in VARIES else _blank(each) for name, each in value.items()}
    return [_blank(each) for each in value] if isinstance(value, list) else value


def _names_of_runs(found: Mapping[str, bytes]) -> dict[str, str]:
    """What is put in the place of ids of runs, of what they saw of other packages, and of their copies of tables."""
    runs = [json.loads(data)["run"] for key, data in found.items() if key.endswith("/manifest.json")]
    names = {}
    for run in runs:
        for table in ("metadata.parquet", "quality.parquet"):
            home = f"packages/{run['customer']}/{run['package_id']}/{table}"
            names[f"runs/{run['customer']}/{run['run_id']}/{table}"] = home
    names |= {run["run_id"]: f"run-of-{run['package_id']}" for run in runs}
    # Pages name a run by the first digits of its id.
    names |= {run["run_id"][:8]: f"run-{run['package_id'][:8]}" for run in runs}
    return names | {run["library"]: "<seen>" for run in runs}


def _renamed(text: TextT, names: Mapping[str, str]) -> TextT:
    for name, called in names.items():
        text = text.replace(name, called) if isinstance(text, str) else text.replace(name.encode(), called.encode())
    return text


def _with_new_checksums(key: str, data: bytes, same: Mapping[str, bytes]) -> bytes:
    """A manifest holds checksums of what it handed over; here of what is compared of that."""
    if not key.endswith("/manifest.json"):
        return data
    document = json.loads(data)
    there = [name for name in document["objects"] if name.startswith("runs/") and name in same]
    document["objects"] = {name: hashlib.sha256(same[name]).hexdigest() for name in there}
    return json.dumps(document, sort_keys=True).encode()
