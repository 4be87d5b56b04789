"""Delete a customer: all that it sent, all that was made of it, and what other customers' machines learnt from it.

Own objects go by prefix, earlier versions included; its share of the library by name. Models of other customers that
learnt from its recordings go after that, so that a machine that must learn again can be given another champion before
its own is gone. Every step can be repeated: a purge that was cut off is started again and goes on. That it was begun
stands in `purges/<customer>.json` until it has ended.

What stays is what others made of their own recordings: scores and alarms by such a model, and their pages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import ConflictError
from tasks import keys
from tasks.champions import (
    Champion,
    Change,
    Succession,
    champion_key,
    find_champion,
    missing_parts,
    read_succession,
    succession_key,
)
from tasks.growth_state import forget_customer, growth_naming
from tasks.ledger import read_ledger
from tasks.lineage import DrawnRun, FittedModel, models_fitted_on, runs_drawing_on
from tasks.object_store import model_bytes
from tasks.sharing import Consent, library_keys, set_consent
from tasks.store import ObjectStore

OWN = ("raw", "packages", "assets", "runs", "recordings", "customers")
"""Top folders of the store below which a customer has a folder of its own, beside its inbox."""
_WHY_GONE = "it learnt from recordings whose owner had them deleted"
_TRIES = 20


class Begun(BaseModel):
    """`purges/<customer>.json`: a purge that has not ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inboxes: tuple[str, ...] = Field(description="Folders of the store where the customer's packages were dropped.")


class Deaf(BaseModel):
    """A machine of another customer whose champion learnt from the one that goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    asset: str
    package: str | None = Field(description="Its last package: onboarding that again makes it a champion.")


class Traces(BaseModel):
    """What a purge finds before it deletes anything."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    own: dict[str, int] = Field(description="Objects by where they lie; folders that hold none are left out.")
    library: tuple[str, ...] = Field(description="Keys of its share of the library.")
    models: tuple[FittedModel, ...] = Field(description="Other customers' models that learnt from it.")
    runs: tuple[DrawnRun, ...] = Field(description="Other customers' runs that name its recordings as source.")
    deaf: tuple[Deaf, ...] = Field(description="Machines that such a model judges now.")

    @property
    def is_empty(self) -> bool:
        """Whether the store knows nothing of the customer."""
        return not (self.own or self.library or self.models or self.runs)


def find_traces(store: ObjectStore, customer: str, *, inboxes: Collection[str] | None = None) -> Traces:
    """All that a store holds of a customer; `inboxes` where its packages were dropped, None: in `inbox/<customer>`.

    Raises
    ------
    UsageError
        The customer's name cannot be used in the store.
    """
    prefixes = own_prefixes(customer, inboxes=inboxes)
    counts = {prefix: sum(1 for _ in store.list_keys(prefix)) for prefix in prefixes}
    drawn = runs_drawing_on(store, customer)
    models = tuple(models_fitted_on(store, customer, drawn))
    return Traces(
        customer=customer,
        own={prefix: count for prefix, count in counts.items() if count},
        library=tuple(library_keys(store, frozenset({customer}))),
        models=models,
        runs=tuple(drawn),
        deaf=tuple(_find_deaf(store, models, drawn)),
    )


def find_begun(store: ObjectStore, customer: str) -> Begun | None:
    """What stands of a purge that was begun and has not ended; None: there is none."""
    return store.find_intact(keys.purge(keys.check_customer(customer)), Begun)


def begin_purge(store: ObjectStore, customer: str, *, inboxes: Collection[str]) -> None:
    """Write down that the customer goes, with what its file alone knows: where its packages were dropped."""
    store.put_model(keys.purge(customer), Begun(inboxes=tuple(inboxes)))


def end_purge(store: ObjectStore, customer: str) -> None:
    """Forget that there was a purge, as all else of the customer is gone."""
    store.erase(keys.purge(customer))


def stop_lending(store: ObjectStore, customer: str) -> bool:
    """Withdraw the customer's consent, so that whoever looks for a source from now on finds none of it.

    True where somebody may have found some before, and may be learning from it still.
    """
    key = keys.consent(customer)
    if not store.exists(key):
        return False
    said = store.find_intact(key, Consent)
    if said is None:
        # A damaged one would keep the purge from mending that very thing.
        store.put_model(key, Consent())
    elif said.share_source:
        set_consent(store, customer, share_source=False)
    return True


def own_prefixes(customer: str, *, inboxes: Collection[str] | None = None) -> list[str]:
    """Prefixes below which everything is the customer's.

    Inboxes first: what is known of them lies in a folder that comes later, and a purge may be cut off.
    """
    name = keys.check_customer(customer)
    folders = [f"inbox/{name}"] if inboxes is None else inboxes
    return list(dict.fromkeys([*(f"{inbox}/" for inbox in folders), *(f"{top}/{name}/" for top in OWN)]))


def _find_deaf(store: ObjectStore, models: Iterable[FittedModel], drawn: Iterable[DrawnRun]) -> list[Deaf]:
    """Machines whose champion goes, or is gone by a purge that was cut off before they could learn again.

    One that never had a champion is none of them, also where its first onboarding has got as far as a source.
    """
    found = []
    for customer, asset_id in dict.fromkeys((each.customer, each.asset_id) for each in (*models, *drawn)):
        champion = find_champion(store, customer, asset_id)
        judged_by = {model.version for model in models if (model.customer, model.asset_id) == (customer, asset_id)}
        if champion is None:
            goes = read_succession(store, customer, asset_id).has_had_champion
        else:
            goes = champion.version in judged_by
        if goes:
            ledger = read_ledger(store, keys.asset(customer, asset_id, "ledger.parquet"))
            package = str(ledger["package"].iloc[-1]) if len(ledger) else None
            found.append(Deaf(customer=customer, asset=asset_id, package=package))
    return found


def erase_own(store: ObjectStore, traces: Traces, *, inboxes: Collection[str] | None = None) -> dict[str, int]:
    """Delete what is the customer's own and its share of the library; objects by where they lay."""
    # First, as by these alone a purge that was cut off would not know the customer again.
    forget_customer(store, traces.customer)
    erased = {prefix: len(store.erase(prefix)) for prefix in own_prefixes(traces.customer, inboxes=inboxes)}
    for key in traces.library:
        store.erase(key)
    return {prefix: count for prefix, count in erased.items() if count}


def erase_learnt(store: ObjectStore, traces: Traces) -> list[Deaf]:
    """Delete the models that others learnt from the customer, and who is left without a champion by it."""
    gone = {(model.customer, model.asset_id, model.version) for model in traces.models}
    for customer, asset_id in dict.fromkeys((model.customer, model.asset_id) for model in traces.models):
        versions = {version for owner, asset, version in gone if (owner, asset) == (customer, asset_id)}
        _depose(store, customer, asset_id, versions)
    for model in traces.models:
        store.erase(f"{model.prefix}/")
    return [each for each in traces.deaf if find_champion(store, each.customer, each.asset) is None]


def erase_sources(store: ObjectStore, traces: Traces) -> None:
    """Delete what other customers' runs say of their source; they count as unfinished without it.

    Last of all: by these alone a purge that was cut off finds the machines that have to learn again.
    """
    for run in traces.runs:
        for name in ("selection.json", "source.parquet"):
            store.erase(f"{run.prefix}/{name}")


def _depose(store: ObjectStore, customer: str, asset_id: str, versions: set[str]) -> None:
    """Forget models that go, as champion or as the one before, and write down that they were deleted.

    The history first, as wherever a champion changes (`tasks.champions`).

    Raises
    ------
    ConflictError
        Others changed the champion in between every time.
    """
    for _ in range(_TRIES):
        try:
            with store.lock(champion_key(customer, asset_id)):
                _write_deposition(store, customer, asset_id, versions)
                return
        except ConflictError:
            continue
    raise ConflictError(
        f"the champion of {asset_id} of {customer} was changed by others {_TRIES} times; start the purge again"
    )


def _write_deposition(store: ObjectStore, customer: str, asset_id: str, versions: set[str]) -> None:
    key, log = champion_key(customer, asset_id), succession_key(customer, asset_id)
    # Of both the mark before the text: whoever writes in between makes `replace` fail.
    crowned, known = (store.stat(each).etag if store.exists(each) else None for each in (key, log))
    champion, history = find_champion(store, customer, asset_id), read_succession(store, customer, asset_id)
    lines = _deletions(history, versions, champion)
    if lines:
        history = Succession(changes=(*history.changes, *lines))
        store.replace(log, model_bytes(history), expected=known)
    if champion is None:
        return
    if champion.version in versions:
        store.delete(key)
    elif champion.previous in versions:
        before = _last_that_stays(store, customer, asset_id, champion, history)
        store.replace(key, model_bytes(champion.model_copy(update={"previous": before})), expected=crowned)


def _deletions(history: Succession, versions: set[str], champion: Champion | None) -> list[Change]:
    """A line for each of the models that the history names and that is not told to be gone already."""
    found = []
    for version in sorted(versions):
        last = history.last_of(version)
        if last is None or history.is_gone(version):
            continue
        said = {"at": datetime.now(UTC), "by": "purge", "crowned": False, "reason": _WHY_GONE, "comparison": None}
        found.append(last.model_copy(update={**said, "previous": champion.version if champion else None}))
    return found


def _last_that_stays(
    store: ObjectStore, customer: str, asset_id: str, champion: Champion, history: Succession
) -> str | None:
    """The last model before the champion that can still judge; None: there is none."""
    passed, version = {champion.version}, champion.previous
    while version is not None and version not in passed:
        if not history.is_gone(version) and not missing_parts(store, customer, asset_id, version):
            return version
        passed.add(version)
        version = history.before(version)
    return None


def what_is_left(store: ObjectStore, customer: str, *, inboxes: Collection[str] | None = None) -> Sequence[str]:
    """Where there is something that a purge should have deleted: what others wrote meanwhile who learnt from it."""
    traces = find_traces(store, customer, inboxes=inboxes)
    learnt = [each.prefix for each in (*traces.models, *traces.runs)]
    return [*traces.own, *traces.library, *learnt, *growth_naming(store, customer)]
