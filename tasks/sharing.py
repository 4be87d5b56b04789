"""Who may learn from whom, and what there is to learn from right now.

A customer's accepted normals serve its own plants always, another customer's only while their owner says so
(`customers/<customer>/consent.json`, default no).
"""

from __future__ import annotations

import difflib
import hashlib

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import InputError
from tasks import keys
from tasks.store import ObjectStore


class Consent(BaseModel):
    """`consent.json`: whether a customer's normals may serve other customers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share_source: bool = False
    changes: int = Field(default=0, ge=0, description="How often it was changed: consent given anew is another state.")


def consent(store: ObjectStore, customer: str) -> bool:
    """Whether a customer's normals may serve other customers."""
    return _read_consent(store, customer).share_source


def set_consent(store: ObjectStore, customer: str, *, share_source: bool) -> bool:
    """Write down whether a customer's normals may serve others; True where that is a change.

    Raises
    ------
    UsageError
        The customer's name cannot be used in the store.
    """
    key = keys.consent(keys.check_customer(customer))
    with store.lock(key):
        before = _read_consent(store, customer)
        if before.share_source == share_source:
            return False
        store.put_model(key, Consent(share_source=share_source, changes=before.changes + 1))
        return True


def require_customer(store: ObjectStore, customer: str) -> None:
    """Nothing, where the customer has sent a package before.

    A misspelt name would seem to withdraw what goes on being shared.

    Raises
    ------
    UsageError
        The customer's name cannot be used in the store.
    InputError
        The store holds no package of the customer; the message names those that are spelt alike, or all.
    """
    known = sorted({key.split("/")[1] for key in store.list_keys("raw/")})
    if keys.check_customer(customer) in known:
        return
    near = difflib.get_close_matches(customer, known, n=3)
    if not known:
        raise InputError(f"{store.url} holds no packages; onboard one, or give another --store")
    raise InputError(
        f"{store.url} holds no package of customer {customer}; "
        + (f"did you mean {' or '.join(near)}?" if near else f"its customers are {', '.join(known)}")
    )


def _read_consent(store: ObjectStore, customer: str) -> Consent:
    key = keys.consent(customer)
    return store.get_model(key, Consent) if store.exists(key) else Consent()


def lenders(store: ObjectStore, customer: str) -> frozenset[str]:
    """Customers whose normals may serve this one: itself, and those that consent."""
    return frozenset({customer} | {name for name, said in _consents(store).items() if said.share_source})


def _consents(store: ObjectStore) -> dict[str, Consent]:
    found = (key for key in store.list_keys("customers/") if key.endswith("/consent.json"))
    return {key.split("/")[1]: store.get_model(key, Consent) for key in found}


def library_keys(store: ObjectStore, owners: frozenset[str] | None = None, *, machine_type: str = "") -> list[str]:
    """Keys of the library, of some owners (default: all) and one machine type (default: all), sorted."""
    under = f"library/{machine_type}/" if machine_type else "library/"
    found = store.list_keys(under)
    return [key for key in found if owners is None or keys.library_parts(key)[1] in owners]


def snapshot(store: ObjectStore, customer: str, *, besides: str) -> str:
    """Hash of all that a run of package `besides` could learn from elsewhere.

    The library as the customer may see it, the customer's other filed packages, what was corrected at the lenders, and
    how often others changed their consent: consent that was given and withdrawn is not the state before, or the
    run from before would stand and the model that learnt from it stay champion.
    """
    owners = lenders(store, customer)
    own = [key for key in library_keys(store, owners) if keys.library_parts(key)[1:] != (customer, besides)]
    corrected = [
        key
        for owner in sorted(owners)
        for key in store.list_keys(f"assets/{owner}/")
        if key.endswith("/corrections.json")
    ]
    objects = [f"{key} {hashlib.sha256(store.get(key)).hexdigest()}" for key in [*own, *corrected]]
    consents = [f"{name} {said.changes}" for name, said in sorted(_consents(store).items()) if name != customer]
    parts = [*objects, *_filed_packages(store, customer, besides=besides), *consents]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _filed_packages(store: ObjectStore, customer: str, *, besides: str) -> list[str]:
    """Keys of the customer's other packages that the gate let through: their test clips are on its ledgers."""
    uploads = (key.rpartition("/")[2].removesuffix(".zip") for key in store.list_keys(f"raw/{customer}/"))
    filed = (keys.package(customer, name, "quality.json") for name in uploads if name != besides)
    return [key for key in filed if store.exists(key)]
