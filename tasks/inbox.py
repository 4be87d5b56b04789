"""The inbox of a customer: which packages lie there that nobody has onboarded yet, and what became of each.

`inbox/<customer>/` is the plant's: nothing in it is moved, renamed or deleted. What was seen stands beside the
customer's consent (`tasks.inbox_log`): a file is read once, and a package is known by its content
(`PackageArchive.package_id`, of what is no archive the hash of its bytes), so that the same recordings under another
name, or zipped again, are not onboarded twice, nor what was onboarded by hand.

A package that was refused, or at which a step failed, is taken up again once the customer's settings or the code have
changed; one that fails for no fault of its own (`EnvironmentFault`) at every look. That a package was begun is written
down first: one that kills its worker is given up after `MOST_ATTEMPTS`, and those not tried yet go before it. Where an
attempt was cut off that got further than those before it, none counts: it was not the package that ended it there. What
is replaced or taken away while it is onboarded is not held against whatever lies there next.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from prefect import State, task
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import EnvironmentFault, InputError, PackageError, RejectedError, StoreError
from schemas.paths import is_clutter
from schemas.references import QualityReport
from schemas.settings import ArchiveLimits, OnboardSettings
from tasks import keys
from tasks.ends import in_a_message, outcome
from tasks.inbox_log import (
    InboxLog,
    Logged,
    SeenPackage,
    SeenUpload,
    changed_log,
    circumstances,
    onboarded_by_hand,
    read_log,
)
from tasks.logbook import note
from tasks.packages import open_package
from tasks.plain_text import printable
from tasks.runs import REJECTED, Manifest, half_runs
from tasks.store import FolderStore, ObjectStat, ObjectStore, check_key, open_store

MOST_ATTEMPTS = 3
"""How often a package is begun that never ends, and gets no further."""
SETTLE_S = 10.0
"""A file that was written less long ago may still be written to; the next look takes it."""
_NOTE_EVERY_S = 30.0
"""While files are read: whoever is killed then reads no more than this again."""
_SHOWN_ROWS, _NAMED = 200, 3

Became = Literal["onboarded", "refused", "failed", "gone"]
"""`gone`: another file lay there, or none, by the time it was onboarded."""

_NO_ZIP = "it is no zip; send recordings and table as one zip"
_NO_KEY = "its name begins with a dot, or holds a backslash, a control character or too many letters; rename it"
_SEE_ITS_PAGE = "its page says why"
_LINK = "it is a link, which is not followed; put the file itself there"


class Arrival(BaseModel):
    """A file of the inbox whose package is to be onboarded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    name: str = Field(description="What the plant called it, below the inbox.")
    package: str = Field(description="By its content: the package's id, of what is no archive a hash of its bytes.")
    etag: str = Field(description="The store's mark of the version that was read.")

    @property
    def short_id(self) -> str:
        """The first eight digits of the package's id."""
        return self.package[:8]


class Look(BaseModel):
    """What a look into the inbox found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    new: tuple[Arrival, ...] = Field(description="To be onboarded, in this order.")
    known: int = Field(description="Files whose package was onboarded before, or lies there under another name.")
    refused: dict[str, str] = Field(description="Files whose package was refused before, and why.")
    unsettled: tuple[str, ...] = Field(description="Names of files that may still be written to.")
    left_alone: dict[str, str] = Field(description="Files that hold no package that could be read, and why.")
    given_up: tuple[str, ...] = Field(description="Names of files whose package failed too often.")


class Line(BaseModel):
    """What became of one package in one look."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    package: str
    became: Became
    message: str = Field(default="", description="Why, and what to do.")


class InboxReport(BaseModel):
    """What a look into the inbox brought."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    look: Look
    lines: tuple[Line, ...]


@task(name="Look into the inbox", task_run_name="Look into {inbox}")
def look_into_inbox(
    customer: str, inbox: str, store: str, settings: OnboardSettings, *, settle_s: float = SETTLE_S
) -> Look:
    """Find what was not onboarded yet; what is new is read once, to know it by its content.

    Raises
    ------
    UsageError
        The customer's name cannot be used in the store.
    """
    shelf, folder = open_store(store), f"{inbox}/"
    log = read_log(shelf, keys.check_customer(customer))
    before = log.model_copy(deep=True)
    there = {key: stat for key, stat in shelf.list_objects(folder) if not is_clutter(key)}
    left_alone = dict(_which_hold_no_package(shelf, there, folder, settings.archive))
    readable = {key: stat for key, stat in there.items() if _name(key, folder) not in left_alone and _is_zip(key)}
    unsettled = [key for key, stat in readable.items() if _may_be_written_to(key, stat, log, settle_s=settle_s)]
    left_alone |= _read_uploads(shelf, customer, _without(readable, unsettled), log, settings.archive, folder=folder)
    _look_up_runs(shelf, customer, log)
    log.note(inbox, there)
    if log != before:
        with changed_log(shelf, customer) as current:
            current.uploads |= log.uploads
            current.packages = log.packages | current.packages
            current.note(inbox, there)
    _forgive_progress(shelf, customer, log)
    look = _sort_out(customer, folder, _without(readable, unsettled), log, circumstances(settings)).model_copy(
        update={"unsettled": tuple(_name(key, folder) for key in unsettled), "left_alone": left_alone}
    )
    _say_what_lies_there(look)
    return look


def _name(key: str, folder: str) -> str:
    return printable(key.removeprefix(folder))


def _is_zip(key: str) -> bool:
    return key.lower().endswith(".zip")


def _without(files: Mapping[str, ObjectStat], some: Sequence[str]) -> dict[str, ObjectStat]:
    return {key: stat for key, stat in files.items() if key not in some}


def _which_hold_no_package(
    store: ObjectStore, there: Mapping[str, ObjectStat], folder: str, limits: ArchiveLimits
) -> Iterator[tuple[str, str]]:
    """Files that are not even opened, and why; what is no zip in a folder of the plant's by the folder's name."""
    for key, stat in there.items():
        name = _name(key, folder)
        if not _is_zip(key):
            yield (f"{name.split('/')[0]}/" if "/" in name else name), _NO_ZIP
        elif not _may_be_key(key):
            yield name, _NO_KEY
        elif isinstance(store, FolderStore) and (store.root / key).resolve() != store.root / key:
            yield name, _LINK
        elif stat.bytes > limits.max_total_bytes:
            yield (
                name,
                f"it has {stat.bytes:,} bytes, and a package at most {limits.max_total_bytes:,}; send it in parts",
            )


def _may_be_key(key: str) -> bool:
    try:
        check_key(key)
    except StoreError:
        return False
    return True


def _may_be_written_to(key: str, stat: ObjectStat, log: InboxLog, *, settle_s: float) -> bool:
    if _is_as_it_was(key, stat, log):
        return False
    # A clock that is ahead of ours must not keep a file waiting for ever.
    return timedelta(0) <= datetime.now(UTC) - stat.modified < timedelta(seconds=settle_s)


def _is_as_it_was(key: str, stat: ObjectStat, log: InboxLog) -> bool:
    before = log.uploads.get(key)
    return before is not None and before.etag == stat.etag


def _read_uploads(
    store: ObjectStore,
    customer: str,
    files: Mapping[str, ObjectStat],
    log: InboxLog,
    limits: ArchiveLimits,
    *,
    folder: str,
) -> dict[str, str]:
    """Enter into the log what files hold that were not read yet; names of those that cannot be read, and why."""
    unreadable = {}
    noted_at = time.monotonic()
    for key, stat in files.items():
        if _is_as_it_was(key, stat, log):
            continue
        log.uploads.pop(key, None)
        try:
            with store.local_file(key) as path:
                package = _identify(path, limits)
        except (OSError, StoreError) as error:
            # Asked whether it is there, a store that is away says so.
            if store.exists(key):
                unreadable[_name(key, folder)] = f"it cannot be read ({in_a_message(str(error))}); drop it again"
            continue
        log.uploads[key] = SeenUpload(etag=stat.etag, package=package)
        if time.monotonic() - noted_at > _NOTE_EVERY_S:
            with changed_log(store, customer) as current:
                current.uploads |= log.uploads
            noted_at = time.monotonic()
    return unreadable


def _identify(path: Path, limits: ArchiveLimits) -> str:
    """What a package is known by, as `tasks.intake` files it."""
    try:
        with open_package(path, limits) as archive:
            return archive.package_id
    except PackageError:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _look_up_runs(store: ObjectStore, customer: str, log: InboxLog) -> None:
    """Enter what `alp onboard` made of packages that no look took up; runs are read only where there are such."""
    unseen = {upload.package for upload in log.uploads.values()} - log.packages.keys()
    received = [package for package in sorted(unseen) if store.exists(keys.raw(customer, package))]
    if received:
        by_hand = onboarded_by_hand(store, customer)
        log.packages |= {package: by_hand[package] for package in received if package in by_hand}


def _sort_out(customer: str, folder: str, files: Mapping[str, ObjectStat], log: InboxLog, now: str) -> Look:
    """Which files are to be onboarded, those tried least first, and which not, by what became of their packages."""
    new: dict[str, tuple[int, datetime, Arrival]] = {}
    known, refused, given_up = 0, {}, []
    for key, stat in files.items():
        upload = log.uploads.get(key)
        if upload is None:
            continue
        name, seen = _name(key, folder), log.packages.get(upload.package)
        attempts = seen.attempts if seen is not None and seen.circumstances == now else 0
        if (seen is not None and seen.became == "onboarded") or upload.package in new:
            known += 1
        elif seen is None or seen.circumstances != now or _is_to_go_on(seen):
            arrival = Arrival(key=key, name=name, package=upload.package, etag=upload.etag)
            new[upload.package] = (attempts, stat.modified, arrival)
        elif seen.became == "refused":
            refused[name] = seen.message
        else:
            given_up.append(name)
    order = sorted(new.values(), key=lambda each: (each[0], each[1], each[2].key))
    return Look(
        customer=customer,
        new=tuple(arrival for *_, arrival in order),
        known=known,
        refused=refused,
        unsettled=(),
        left_alone={},
        given_up=tuple(given_up),
    )


def _is_to_go_on(seen: SeenPackage) -> bool:
    return seen.became in ("started", "failed") and seen.attempts < MOST_ATTEMPTS


def _forgive_progress(store: ObjectStore, customer: str, log: InboxLog) -> None:
    """Count none of the attempts at a package where the last one got further: it is neither last nor given up."""
    for package, seen in log.packages.items():
        if seen.became == "started" and _how_far(store, customer, package) > seen.reached:
            log.packages[package] = seen.model_copy(update={"attempts": 0})


def _how_far(store: ObjectStore, customer: str, package: str) -> int:
    """Objects that attempts to onboard a package have filed: its clips, its half runs, the models of its machines."""
    filed = sum(1 for _ in store.list_keys(keys.package(customer, package, "")))
    assets: set[str] = set()
    for run_id, found in half_runs(store, customer).items():
        if _package_of(store, customer, run_id) == package:
            filed += len(found)
            assets |= {key.split("/")[3] for key in found if key.count("/") > 3}
    return filed + sum(1 for name in assets for _ in store.list_keys(keys.asset(customer, name, "models/")))


def _package_of(store: ObjectStore, customer: str, half_run: str) -> str | None:
    """The package of a run that was cut off; None where it does not say, or is taken away just now."""
    # What nobody will go on with must keep nobody from his turn.
    with suppress(StoreError):
        report = store.find_intact(keys.run(customer, half_run, "quality.json"), QualityReport)
        return report.package_id if report is not None else None
    return None


def _say_what_lies_there(look: Look) -> None:
    note(
        f"{len(look.new)} packages to onboard, {look.known} known, {len(look.refused)} refused before,"
        f" {len(look.unsettled)} perhaps still being written, {len(look.given_up)} given up"
    )
    for name, why in list(look.refused.items())[:_SHOWN_ROWS]:
        note(f"{name} was refused before: {why or _SEE_ITS_PAGE}")
    for name, why in list(look.left_alone.items())[:_SHOWN_ROWS]:
        note(f"{name} is left alone: {why}")
    for name in look.given_up[:_SHOWN_ROWS]:
        note(f"{name} {_given_up()}")


def _given_up() -> str:
    return (
        f"failed {MOST_ATTEMPTS} times and is left alone until settings or code change; see its runs, or onboard it by"
        " hand"
    )


def note_begun(arrival: Arrival, customer: str, store: str, settings: OnboardSettings) -> None:
    """Write down that a package is begun, before anything can happen to whoever begins it."""
    shelf, now = open_store(store), circumstances(settings)
    reached = _how_far(shelf, customer, arrival.package)
    with changed_log(shelf, customer) as log:
        before = log.packages.get(arrival.package)
        attempts = 0
        if before is not None and before.circumstances == now:
            got_further = before.became == "started" and reached > before.reached
            attempts = 0 if got_further else before.attempts
        log.packages[arrival.package] = SeenPackage(
            name=arrival.name, became="started", attempts=attempts + 1, circumstances=now, reached=reached
        )


def note_ended(arrival: Arrival, state: State[Manifest], customer: str, store: str) -> Line:
    """Write down what became of a package, by the state in which its run ended."""
    shelf = open_store(store)
    became, message, counts = _judge_end(state)
    gone = _why_gone(shelf, arrival, state)
    with changed_log(shelf, customer) as log:
        begun = log.packages.get(arrival.package)
        if gone is not None:
            # Whatever became of what lay there instead: this package was not onboarded.
            log.packages.pop(arrival.package, None)
            log.uploads.pop(arrival.key, None)
        elif begun is not None:
            attempts = begun.attempts - (0 if counts else 1)
            log.packages[arrival.package] = begun.model_copy(
                update={"became": became, "message": message, "attempts": attempts}
            )
    if gone is not None:
        return Line(name=arrival.name, package=arrival.package, became="gone", message=gone)
    return Line(name=arrival.name, package=arrival.package, became=became, message=message)


def _why_gone(store: ObjectStore, arrival: Arrival, state: State[Manifest]) -> str | None:
    """Why the run was not one of the package that was found there; None where it was."""
    manifest = outcome(state)
    if isinstance(manifest, Manifest):
        if manifest.package.package_id == arrival.package:
            return None
    elif state.is_completed():
        return None
    elif not store.exists(arrival.key):
        return "it was taken away before it was onboarded; drop it again if it is wanted"
    elif store.stat(arrival.key).etag == arrival.etag:
        return None
    return "it was replaced while it was onboarded; the next look takes up what lies there now"


def _judge_end(state: State[Manifest]) -> tuple[Logged, str, bool]:
    """What became of a package, why, and whether the attempt counts against it."""
    if state.is_completed():
        return "onboarded", "", True
    message = in_a_message(state.message or "")
    if state.name == REJECTED:
        return "refused", message, True
    fault = outcome(state)
    message = in_a_message(str(fault)) if isinstance(fault, Exception) else message
    if isinstance(fault, InputError | RejectedError):
        return "refused", message, True
    return "failed", message, not isinstance(fault, EnvironmentFault)


def conclude_inbox(look: Look, lines: Sequence[Line]) -> State[InboxReport]:
    """How a look ends: completed, or failed with what is wrong with which package; the others are done either way."""
    report = InboxReport(look=look, lines=tuple(lines))
    if lines:
        create_table_artifact(
            key=f"inbox-{look.customer}",
            table=[*(line.model_dump() for line in lines), *_other_rows(look)][:_SHOWN_ROWS],
            description=f"What became of the packages of {look.customer} (at most {_SHOWN_ROWS})",
        )
    bad = [line for line in lines if line.became in ("refused", "failed")]
    done = sum(line.became == "onboarded" for line in lines)
    head = f"{done} onboarded, {len(lines) - done} not, {look.known} known already"
    told = [
        *_some([f"{line.name} {line.became}: {line.message}" for line in lines if line.became != "onboarded"]),
        *_some([f"{name} was refused before: {why or _SEE_ITS_PAGE}" for name, why in look.refused.items()]),
        *(f"{name} {_given_up()}" for name in _some(look.given_up)),
        *(f"{name} is left alone: {why}" for name, why in list(look.left_alone.items())[:_NAMED]),
    ]
    message = ". ".join([head, "; ".join(told)]) if told else head
    if not bad:
        return Completed(message=message, data=report)
    name = REJECTED if all(line.became == "refused" for line in bad) else "Failed"
    return Failed(name=name, message=message, data=report)


def _other_rows(look: Look) -> Iterator[dict[str, str]]:
    """Of files that nothing became of in this look, rows as of those of which something did."""
    for name, why in look.refused.items():
        yield {"name": name, "package": "", "became": "refused before", "message": why or _SEE_ITS_PAGE}
    for name in look.given_up:
        yield {"name": name, "package": "", "became": "given up", "message": _given_up()}
    for name, why in look.left_alone.items():
        yield {"name": name, "package": "", "became": "left alone", "message": why}


def _some(texts: Sequence[str]) -> list[str]:
    """The first few, and how many more there are."""
    more = [f"and {len(texts) - _NAMED} more"] if len(texts) > _NAMED else []
    return [*texts[:_NAMED], *more]
