"""Delete a customer: all that it sent, all that was made of it, and what other customers' machines learnt from it.

Own objects go by prefix, earlier versions included; its share of the library by name. Models of other customers that
learnt from its recordings go after that, so that a machine that must learn again can be given another champion before
its own is gone. Every step can be repeated: a purge that was cut off is started again and goes on.

What stays is what others made of their own recordings: scores and alarms by such a model, and their pages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field

from tasks import keys
from tasks.calibrating import Champion
from tasks.growth_state import forget_customer, growth_naming
from tasks.ledger import read_ledger
from tasks.lineage import DrawnRun, FittedModel, models_fitted_on, runs_drawing_on
from tasks.sharing import library_keys
from tasks.store import ObjectStore

OWN = ("raw", "packages", "assets", "runs", "recordings", "customers")
"""Top folders of the store below which a customer has a folder of its own, beside its inbox."""


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


def own_prefixes(customer: str, *, inboxes: Collection[str] | None = None) -> list[str]:
    """Prefixes below which everything is the customer's.

    Inboxes first: what is known of them lies in a folder that comes later, and a purge may be cut off.
    """
    name = keys.check_customer(customer)
    folders = [f"inbox/{name}"] if inboxes is None else inboxes
    return list(dict.fromkeys([*(f"{inbox}/" for inbox in folders), *(f"{top}/{name}/" for top in OWN)]))


def _find_deaf(store: ObjectStore, models: Iterable[FittedModel], drawn: Iterable[DrawnRun]) -> list[Deaf]:
    """Machines whose champion goes, or is gone by a purge that was cut off before they could learn again."""
    found = []
    for customer, asset_id in dict.fromkeys((each.customer, each.asset_id) for each in (*models, *drawn)):
        champion = _champion(store, customer, asset_id)
        judged_by = {model.version for model in models if (model.customer, model.asset_id) == (customer, asset_id)}
        if champion is None or champion.version in judged_by:
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
    return [each for each in traces.deaf if _champion(store, each.customer, each.asset) is None]


def erase_sources(store: ObjectStore, traces: Traces) -> None:
    """Delete what other customers' runs say of their source; they count as unfinished without it.

    Last of all: by these alone a purge that was cut off finds the machines that have to learn again.
    """
    for run in traces.runs:
        for name in ("selection.json", "source.parquet"):
            store.erase(f"{run.prefix}/{name}")


def _depose(store: ObjectStore, customer: str, asset_id: str, versions: set[str]) -> None:
    """Forget models that go, as champion or as the one before."""
    key = keys.asset(customer, asset_id, "champion.json")
    with store.lock(key):
        champion = _champion(store, customer, asset_id)
        if champion is not None and champion.version in versions:
            store.delete(key)
        elif champion is not None and champion.previous in versions:
            store.put_model(key, champion.model_copy(update={"previous": None}))


def _champion(store: ObjectStore, customer: str, asset_id: str) -> Champion | None:
    key = keys.asset(customer, asset_id, "champion.json")
    return store.get_model(key, Champion) if store.exists(key) else None


def what_is_left(store: ObjectStore, customer: str, *, inboxes: Collection[str] | None = None) -> Sequence[str]:
    """Where there is something that a purge should have deleted: what others wrote meanwhile who learnt from it."""
    traces = find_traces(store, customer, inboxes=inboxes)
    learnt = [each.prefix for each in (*traces.models, *traces.runs)]
    return [*traces.own, *traces.library, *learnt, *growth_naming(store, customer)]
