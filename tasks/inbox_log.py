"""What is known of a customer's inbox: `customers/<customer>/inbox.json`.

- an *upload* is a file as it was when it was read, known by its key and the store's mark of that version, so that it is
  read once;
- a *package* is what uploads hold, known by its content, and what became of it.

The log holds what lies in the inbox now: of a file that the plant took away it forgets the rest, since the runs of a
package tell what became of it. A log that makes no sense, or is of another version, is made anew for the same reason.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.references import Verdict
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.runs import code_version, digest
from tasks.store import ObjectStore

Logged = Literal["started", "onboarded", "refused", "failed"]


class SeenUpload(BaseModel):
    """A file of the inbox as it was when it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    etag: str = Field(description="The store's mark of the version that was read.")
    package: str


class SeenPackage(BaseModel):
    """What became of a package."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    became: Logged
    attempts: int = Field(default=0, ge=0, description="How often it was begun under these circumstances.")
    circumstances: str = Field(description="Hash of the settings and the code it was begun with.")
    reached: int = Field(default=0, ge=0, description="Objects that earlier attempts had filed when it was begun last.")
    message: str = ""


class InboxLog(BaseModel):
    """`customers/<customer>/inbox.json`."""

    model_config = ConfigDict(extra="forbid")

    inboxes: list[str] = Field(default_factory=list, description="Folders of the store that were looked into.")
    uploads: dict[str, SeenUpload] = Field(default_factory=dict, description="By key.")
    packages: dict[str, SeenPackage] = Field(default_factory=dict, description="By content.")

    def note(self, inbox: str, there: Collection[str]) -> None:
        """Note that a folder was looked into, and forget uploads that are not there now, and packages none holds."""
        self.inboxes = sorted({*self.inboxes, inbox})
        self.uploads = {key: upload for key, upload in self.uploads.items() if key in there}
        held = {upload.package for upload in self.uploads.values()}
        self.packages = {name: seen for name, seen in self.packages.items() if name in held}


def circumstances(settings: OnboardSettings) -> str:
    """Changes when a package that was refused might be accepted."""
    return digest(settings.digest(), code_version())


def read_log(store: ObjectStore, customer: str) -> InboxLog:
    """The log as it is now; an empty one where there is none, or none that can be read."""
    return store.find_intact(keys.inbox_log(customer), InboxLog) or InboxLog()


@contextmanager
def changed_log(store: ObjectStore, customer: str) -> Iterator[InboxLog]:
    """The log as it is now, written back at the end where it was changed."""
    key = keys.inbox_log(customer)
    with store.lock(key):
        log = read_log(store, customer)
        before = log.model_copy(deep=True)
        yield log
        if log != before:
            store.put_model(key, log)


def onboarded_by_hand(store: ObjectStore, customer: str) -> dict[str, SeenPackage]:
    """What `alp onboard` made of packages, by their content; of several runs of one that which was not refused."""
    found: dict[str, SeenPackage] = {}
    for key in store.list_keys(f"runs/{customer}/"):
        if key.endswith("/manifest.json"):
            manifest = json.loads(store.get(key))
            package, refused = manifest["package"], manifest["result"]["verdict"] == Verdict.REJECTED
            if not refused or package["package_id"] not in found:
                found[package["package_id"]] = SeenPackage(
                    name=package["name"],
                    became="refused" if refused else "onboarded",
                    circumstances=_circumstances_of(manifest["run"]),
                )
    return found


def _circumstances_of(run: dict[str, Any]) -> str:
    """Those of a run by its manifest; none where another version wrote it."""
    try:
        return digest(OnboardSettings.model_validate(run["settings"]).digest(), run["code_version"])
    except ValidationError:
        return ""
