"""Who judges an asset, who did before, and why: `champion.json`, and beside it the history, `succession.json`.

A model becomes champion by an onboarding, as the newest fit; by a retraining, once a comparison with the champion has
found it not worse; or by an operator, who takes the champion back (rollback) or crowns a model by name (promote). What
an operator took back, and what a comparison refused, is held: no onboarding and no retraining crowns that very model
again by itself. A model that learnt from other recordings is another model.

Both objects change by `replace`, under the champion's lock: of two who crown at once the second decides again on what
the first one left. The history is written first. Whoever is killed in between leaves a line too many in it, and never a
change of champion that nobody knows the reason of.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.errors import ConflictError, InputError, StoreError, UsageError
from schemas.references import Asset, Model, Run
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.ledger import ledger_version, read_corrected
from tasks.object_store import ModelT, ObjectStore, model_bytes

By = Literal["onboard", "retrain", "promote", "rollback", "purge"]

_PARTS = (
    "engine.json",
    "calibration.json",
    "calibration.parquet",
    "threshold.json",
    "alarm_rule.json",
    "settings.json",
    "card.json",
)
"""What a model must have to judge, and to stand on the page of all machines."""
_TRIES = 20


class Champion(BaseModel):
    """`champion.json`: the model that judges an asset now, and the one it replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    engine: str
    encoder: str
    ledger_version: str
    previous: str | None


class Onboarding(BaseModel):
    """`settings.json` of a model: the run that crowned it last, and its settings, by which recordings are heard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    settings: OnboardSettings


class Change(BaseModel):
    """A line of `succession.json`: a model that became champion, was refused, or was deleted by a purge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    by: By
    crowned: bool = Field(description="False: a comparison refused it, and the champion stayed; or a purge deleted it.")
    version: str
    engine: str
    encoder: str
    ledger_version: str
    previous: str | None = Field(description="The champion until then.")
    reason: str
    comparison: str | None = Field(default=None, description="Store key of the comparison that decided.")

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        day = f"{self.at:%Y-%m-%d}"
        if self.by == "purge":
            return f"deleted on {day}: {self.reason}"
        if not self.crowned:
            return f"refused on {day}: {self.reason}"
        if self.by == "rollback":
            return f"{self.previous} was taken back on {day}: {self.reason}"
        return f"champion since {day}: {self.reason}"


class Succession(BaseModel):
    """`succession.json`: every change of champion, every refusal and every deletion, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    changes: tuple[Change, ...] = ()

    def held_by(self, version: str) -> Change | None:
        """What keeps a model from being crowned by itself: its refusal, or that it was taken back; None: nothing."""
        held = None
        for change in (each for each in self.changes if each.by != "purge"):
            if change.version == version:
                held = None if change.crowned else change
            elif change.by == "rollback" and change.previous == version:
                held = change
        return held

    def last_of(self, version: str) -> Change | None:
        """The last line of a model."""
        return next((change for change in reversed(self.changes) if change.version == version), None)

    def before(self, version: str) -> str | None:
        """The champion that a model followed when it was crowned last, other than by a rollback; of one that a purge
        deleted the one before that."""
        passed, found = {version}, self._followed(version)
        while found is not None and found not in passed and self.is_gone(found):
            passed.add(found)
            found = self._followed(found)
        return None if found in passed else found

    def _followed(self, version: str) -> str | None:
        crowned = (change for change in reversed(self.changes) if change.crowned and change.by != "rollback")
        return next((change.previous for change in crowned if change.version == version), None)

    def is_gone(self, version: str) -> bool:
        """Whether a purge deleted a model, and none like it was made since."""
        last = self.last_of(version)
        return last is not None and last.by == "purge"

    @property
    def has_had_champion(self) -> bool:
        """Whether the asset was ever judged by a model."""
        return any(change.crowned for change in self.changes)


class Coronation(NamedTuple):
    """How an attempt to change the champion ended."""

    champion: Champion | None
    """Who judges now."""
    before: Champion | None
    held: Change | None = None
    """What kept the model from being crowned."""
    overtaken: str = ""
    """What came in between, so that the model was not crowned; empty: nothing."""


class _Decided(NamedTuple):
    end: Coronation
    change: Change | None = None


_Decide = Callable[[Champion | None, Succession], _Decided]


def champion_key(customer: str, asset_id: str) -> str:
    """Where it says who judges an asset."""
    return keys.asset(customer, asset_id, "champion.json")


def succession_key(customer: str, asset_id: str) -> str:
    """Where the history of an asset's champions lies."""
    return keys.asset(customer, asset_id, "succession.json")


def onboarding_key(prefix: str) -> str:
    """Where the settings of the model under `prefix` lie."""
    return f"{prefix}/settings.json"


def find_champion(store: ObjectStore, customer: str, asset_id: str) -> Champion | None:
    """Who judges an asset now; None: nobody yet."""
    return store.find_model(champion_key(customer, asset_id), Champion)


def read_succession(store: ObjectStore, customer: str, asset_id: str) -> Succession:
    """The history of an asset's champions; where an older version crowned the one there is, it begins with that."""
    return _read_history(store, customer, asset_id, find_champion(store, customer, asset_id))[0]


def file_onboarding(store: ObjectStore, model: Model, run: Run) -> None:
    """Write beside a model by which run and settings it is heard, unless that lies there."""
    key, data = onboarding_key(model.prefix), model_bytes(Onboarding(run_id=run.run_id, settings=run.settings))
    if not store.exists(key) or store.get(key) != data:
        store.put(key, data)


def crown(
    store: ObjectStore,
    model: Model,
    run: Run,
    *,
    by: By,
    reason: str,
    comparison: str | None = None,
    instead_of: str | None = None,
    must: bool = False,
) -> Coronation:
    """Point an asset at a model that a run made, unless something speaks against that.

    A model of another ledger than the asset has now, corrections applied, is not crowned: a later package or a
    correction came while it was made, and the run that follows from that has the last word. Nor is one that was held,
    as long as the asset has a champion.

    Parameters
    ----------
    instead_of : the champion that the model was compared with; it is not crowned over another one.
    must : crown it though it was held: the champion cannot stay.
    """
    asset = model.asset

    def decide(before: Champion | None, history: Succession) -> _Decided:
        if (came := _what_came(store, asset, before, instead_of)) is not None:
            return _Decided(Coronation(before, before, overtaken=came))
        # First of all: whoever follows the champion judges by these settings from the moment on that it is crowned.
        file_onboarding(store, model, run)
        held = history.held_by(model.version)
        if before is not None and before.version != model.version and held is not None and not must:
            return _Decided(Coronation(before, before, held=held))
        champion = _succeed(before, model)
        return _crowned(before, champion, by=by, reason=reason, comparison=comparison)

    return _decide_on(store, asset.customer, asset.asset_id, decide)


def refuse(store: ObjectStore, model: Model, run: Run, *, reason: str, comparison: str) -> Coronation:
    """Write down that a comparison refused a model; an operator may crown it all the same."""

    def decide(before: Champion | None, history: Succession) -> _Decided:
        file_onboarding(store, model, run)
        last = history.held_by(model.version)
        if last is not None and last.comparison == comparison:
            return _Decided(Coronation(before, before, held=last))
        change = _line(_succeed(before, model), before, by="retrain", reason=reason, comparison=comparison)
        refused = change.model_copy(update={"crowned": False})
        return _Decided(Coronation(before, before, held=refused), refused)

    return _decide_on(store, model.asset.customer, model.asset.asset_id, decide)


def promote(store: ObjectStore, customer: str, asset_id: str, name: str, *, reason: str) -> Coronation:
    """Crown a model by name, which may be the beginning of its version; what held it holds it no longer.

    Raises
    ------
    InputError
        The asset has no model of that name, or several.
    StoreError
        The model is not whole.
    """
    version = find_version(store, customer, asset_id, name)

    def decide(before: Champion | None, history: Succession) -> _Decided:
        if before is not None and before.version == version:
            return _Decided(Coronation(before, before))
        known = describe_model(store, customer, asset_id, version, history)
        champion = known.model_copy(update={"previous": before.version if before else None})
        return _crowned(before, champion, by="promote", reason=reason)

    return _decide_on(store, customer, asset_id, decide)


def rollback(store: ObjectStore, customer: str, asset_id: str, *, reason: str) -> Coronation:
    """Take the champion back: the model before it judges again, and once more the one before that.

    Raises
    ------
    InputError
        The asset has no champion, or none before it.
    StoreError
        The model before it is not whole.
    """

    def decide(before: Champion | None, history: Succession) -> _Decided:
        if before is None:
            raise InputError(f"{asset_id} of {customer} has no champion yet; onboard a package of it")
        if before.previous is None:
            raise InputError(
                f"champion {before.version} of {asset_id} has none before it; `alp champion list {asset_id} --customer"
                f" {customer}` names all models, and `alp champion promote` crowns one"
            )
        known = describe_model(store, customer, asset_id, before.previous, history)
        champion = known.model_copy(update={"previous": history.before(before.previous)})
        return _crowned(before, champion, by="rollback", reason=reason)

    return _decide_on(store, customer, asset_id, decide)


def find_version(store: ObjectStore, customer: str, asset_id: str, name: str) -> str:
    """The one model of an asset whose version begins with `name`.

    Raises
    ------
    UsageError
        It is no beginning of a version.
    InputError
        There is none, or several.
    """
    if not name.isalnum():
        raise UsageError(f"{name!r} is no model; give its version, or how it begins: `alp champion list {asset_id}`")
    versions = model_versions(store, customer, asset_id)
    found = [name] if name in versions else [version for version in versions if version.startswith(name)]
    if len(found) != 1:
        which = f"{len(found)} models, {', '.join(found)}; give more of it" if found else "no model"
        known = "" if found else f"; its models are {', '.join(versions) or 'none yet'}"
        raise InputError(f"{asset_id} of {customer} has {which} whose version begins with {name!r}{known}")
    return found[0]


def model_versions(store: ObjectStore, customer: str, asset_id: str) -> list[str]:
    """Versions of an asset's models that lie in the store, sorted."""
    under = keys.asset(customer, asset_id, "models/")
    return sorted({key.removeprefix(under).split("/")[0] for key in store.list_keys(under)})


def missing_parts(store: ObjectStore, customer: str, asset_id: str, version: str) -> list[str]:
    """What a model lacks to judge by."""
    prefix = keys.model(customer, asset_id, version)
    return [part for part in _PARTS if not store.exists(f"{prefix}/{part}")]


def describe_model(
    store: ObjectStore, customer: str, asset_id: str, version: str, history: Succession | None = None
) -> Champion:
    """What `champion.json` says of a model, without the one before it.

    Raises
    ------
    StoreError
        The model is not whole, or neither the history nor its run says what it learnt from.
    """
    if missing := missing_parts(store, customer, asset_id, version):
        raise StoreError(
            f"model {version} of {asset_id} cannot judge: {keys.model(customer, asset_id, version)} holds no"
            f" {', '.join(missing)}; choose another of `alp champion list {asset_id} --customer {customer}`, or onboard"
            " a package of the asset again, which makes its model anew"
        )
    known = (history or read_succession(store, customer, asset_id)).last_of(version)
    if known is not None:
        said = {name: getattr(known, name) for name in ("version", "engine", "encoder", "ledger_version")}
        return Champion(**said, previous=None)
    prefix = keys.model(customer, asset_id, version)
    card = store.get_model(f"{prefix}/card.json", _Card)
    run_id = store.get_model(onboarding_key(prefix), Onboarding).run_id
    learnt = ledger_version(store.get_frame(keys.run(customer, run_id, f"{asset_id}/ledger.parquet")))
    return Champion(version=version, engine=card.engine, encoder=card.encoder, ledger_version=learnt, previous=None)


class _Card(BaseModel):
    """Of `card.json`, what a model is."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    engine: str
    encoder: str


def how_to_crown(customer: str, asset_id: str, version: str) -> str:
    """The command by which an operator crowns a model that is held."""
    return f"alp champion promote {asset_id} {version} --customer {customer}"


def _what_came(store: ObjectStore, asset: Asset, before: Champion | None, instead_of: str | None) -> str | None:
    """Why a model that was made before is out of date by now; None: it is not."""
    if ledger_version(read_corrected(store, asset.customer, asset.asset_id)) != asset.ledger_version:
        return f"the ledger of {asset.asset_id} has changed since it was read"
    if instead_of is not None and (before is None or before.version != instead_of):
        return f"model {instead_of} of {asset.asset_id} is champion no longer"
    return None


def _succeed(before: Champion | None, model: Model) -> Champion:
    """The model as champion after the one before, if any."""
    previous = before.version if before else None
    if before is not None and before.version == model.version:
        previous = before.previous
    return Champion(
        version=model.version,
        engine=model.engine,
        encoder=model.encoder,
        ledger_version=model.asset.ledger_version,
        previous=previous,
    )


def _crowned(
    before: Champion | None, champion: Champion, *, by: By, reason: str, comparison: str | None = None
) -> _Decided:
    """The champion and its line; none where the same model stays, whatever else is said of it."""
    end = Coronation(champion, before)
    if before is not None and before.version == champion.version:
        return _Decided(end)
    return _Decided(end, _line(champion, before, by=by, reason=reason, comparison=comparison))


def _line(champion: Champion, before: Champion | None, *, by: By, reason: str, comparison: str | None) -> Change:
    return Change(
        at=datetime.now(UTC),
        by=by,
        crowned=True,
        version=champion.version,
        engine=champion.engine,
        encoder=champion.encoder,
        ledger_version=champion.ledger_version,
        previous=before.version if before else None,
        reason=reason,
        comparison=comparison,
    )


def _decide_on(store: ObjectStore, customer: str, asset_id: str, decide: _Decide) -> Coronation:
    """Read, decide and write; again on what is there now where somebody else wrote meanwhile.

    Raises
    ------
    ConflictError
        Others wrote in between every time.
    """
    key, conflict = champion_key(customer, asset_id), None
    for _ in range(_TRIES):
        try:
            with store.lock(key):
                return _attempt(store, customer, asset_id, decide)
        except ConflictError as error:
            conflict = error
    raise ConflictError(
        f"the champion of {asset_id} of {customer} was changed by others {_TRIES} times while this run decided on it;"
        " see which runs of it are under way, and start again"
    ) from conflict


def _attempt(store: ObjectStore, customer: str, asset_id: str, decide: _Decide) -> Coronation:
    key, log = champion_key(customer, asset_id), succession_key(customer, asset_id)
    before, expected = _read_versioned(store, key, Champion)
    history, known = _read_history(store, customer, asset_id, before)
    end, change = decide(before, history)
    if change is not None and _was_cut_off(history, change):
        # Whoever wrote the line was killed before the champion followed: it stands for this attempt.
        change = None
    if change is not None:
        known = store.replace(log, model_bytes(_with(history, change)), expected=known)
    if end.champion is not None and end.champion != before:
        try:
            store.replace(key, model_bytes(end.champion), expected=expected)
        except ConflictError:
            # It did not happen; where somebody added a line meanwhile, the next attempt follows on that.
            if change is not None:
                _withdraw(store, log, change)
            raise
    return end


def _was_cut_off(history: Succession, change: Change) -> bool:
    """Whether the last line says the same as a change that is only now made, but for when."""
    return bool(history.changes) and history.changes[-1].model_copy(update={"at": change.at}) == change


def _with(history: Succession, change: Change) -> Succession:
    return Succession(changes=(*history.changes, change))


def _withdraw(store: ObjectStore, log: str, change: Change) -> None:
    for _ in range(_TRIES):
        history, known = _read_versioned(store, log, Succession)
        if history is None or change not in history.changes:
            return
        left = Succession(changes=tuple(each for each in history.changes if each != change))
        try:
            store.replace(log, model_bytes(left), expected=known)
        except ConflictError:
            continue
        return


def _read_history(
    store: ObjectStore, customer: str, asset_id: str, champion: Champion | None
) -> tuple[Succession, str | None]:
    """The history and its version; where there is none yet, it begins with the champion that there is."""
    history, known = _read_versioned(store, succession_key(customer, asset_id), Succession)
    if history is not None or champion is None:
        return history or Succession(), known
    first = Change(
        at=store.stat(champion_key(customer, asset_id)).modified,
        by="onboard",
        crowned=True,
        reason="champion before this history began",
        **champion.model_dump(),
    )
    return Succession(changes=(first,)), None


def _read_versioned(store: ObjectStore, key: str, model: type[ModelT]) -> tuple[ModelT | None, str | None]:
    """What lies at a key, and which version of it that was; what is damaged is a StoreError."""
    if not store.exists(key):
        return None, None
    etag = store.stat(key).etag
    return store.get_model(key, model), etag
