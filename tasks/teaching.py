"""Which normals of the library can teach another machine of their type than their own.

A machine learns from another one's normals by consent, and only where sensor and sample rate are its own; from
synthetic ones only where its own are all synthetic. `library.source_rows` decides that for the machine that learns;
here the same is asked from the side of the recordings, for a whole type at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pandas as pd

from tasks.ledger import Role
from tasks.library import NORMALS, library_rows
from tasks.sharing import consent
from tasks.store import ObjectStore

_KIND = ["customer", "section_id", "sensor", "sample_rate", "synthetic"]


class _Learner(NamedTuple):
    """A machine of the type, by what it can learn from."""

    customer: str
    section: str
    sensors: frozenset[str]
    rates: frozenset[int]
    synthetic: bool


def useful_normals(store: ObjectStore, machine_type: str) -> pd.DataFrame:
    """Normals of the library from which another machine of the type than their own may learn.

    Columns recording_id, customer, package and synthetic, a row for each recording and package.
    """
    rows = library_rows(store, machine_type=machine_type)
    normals = rows[rows["role"].isin(NORMALS)]
    called_synthetic = normals.loc[normals["synthetic"].astype(bool), "recording_id"]
    normals = normals.assign(synthetic=normals["recording_id"].isin(called_synthetic))
    learners = list(_learners(normals))
    shares = {customer: consent(store, customer) for customer in sorted(set(normals["customer"]))}
    holders: dict[str, set[tuple[str, str]]] = {}
    held = normals[["recording_id", "customer", "section_id"]].drop_duplicates()
    for name, customer, section in held.itertuples(index=False, name=None):
        holders.setdefault(name, set()).add((customer, section))
    useful: set[str] = set()
    for kind, part in normals.groupby(_KIND):
        taught = {(one.customer, one.section) for one in learners if _may_teach(kind, one, shares)}
        useful |= {name for name in part["recording_id"] if taught - holders[name]}
    kept = normals.loc[normals["recording_id"].isin(useful), ["recording_id", "customer", "package", "synthetic"]]
    return kept.drop_duplicates().reset_index(drop=True)


def _learners(normals: pd.DataFrame) -> Iterator[_Learner]:
    own = normals[normals["role"] == Role.TARGET]
    for (customer, section), part in own.groupby(["customer", "section_id"]):
        sensors, rates = frozenset(part["sensor"]), frozenset(part["sample_rate"])
        yield _Learner(str(customer), str(section), sensors, rates, bool(part["synthetic"].all()))


def _may_teach(kind: tuple[str, str, str, int, bool], learner: _Learner, shares: Mapping[str, bool]) -> bool:
    """Whether recordings of such a kind (`_KIND`) may be source for a machine, if that does not hold them itself."""
    customer, _, sensor, rate, synthetic = kind
    may_hear = customer == learner.customer or shares[customer]
    comparable = sensor in learner.sensors and rate in learner.rates
    return may_hear and comparable and (learner.synthetic or not synthetic)
