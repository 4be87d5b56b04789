"""A lock on S3: a small object that says who holds it, renewed while it is held, and taken over once it is not.

S3 knows no locks, but writes on a condition. To lock `key` is to write its lease under `.locks/` where none lies
(`If-None-Match: *`), or over one that was given back or has run out (`If-Match`): of any number one succeeds. The
holder renews it every third of `LEASE_S`, and whoever waits and sees the same version for longer than `LEASE_S` takes
it over: each goes by how long something lasts on its own machine, so that no two clocks are ever compared.

Its limits. A holder that is cut off from the server, or put to sleep, for longer than `LEASE_S` loses the lock without
being asked. It finds that out before its next write and stops; a write that was on its way meanwhile is stopped by its
own condition where it is of the locked object itself (`tasks.s3_store`), and by nothing where it is of another. Whoever
was killed keeps the next one waiting for `LEASE_S` + `_GRACE_S`.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import threading
import time
import uuid
from contextlib import suppress
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import StoreError
from tasks.s3_bucket import Bucket

LEASE_S = 30.0
"""How long a lock holds without being renewed."""

LOCKS = ".locks/"
"""Where leases lie; no key of a store begins with a dot."""

_GRACE_S = 2.0
"""By how much longer others wait, for clocks that run faster than others."""

_FIRST_LOOK_S, _LAST_LOOK_S = 0.05, 1.0
_SAY_AFTER_S = 10.0
_DICE = random.SystemRandom()


class LeaseNote(BaseModel):
    """What lies in a lease."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    lease_id: str
    owner: str = Field(description="Machine and process, for whoever looks into a lock that does not open.")
    held: bool
    lease_s: float
    renewals: int = Field(description="Also makes every renewal another version.")


class Lease:
    """A lock that is held."""

    def __init__(self, bucket: Bucket, key: str, name: str, *, lease_s: float) -> None:
        self._bucket, self._key, self._name, self._lease_s = bucket, key, name, lease_s
        self._id, self._renewals, self._etag = uuid.uuid4().hex, 0, ""
        self._renewed_at = _clock()
        self._taken_over = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease {key}", daemon=True)

    @classmethod
    def take(cls, bucket: Bucket, key: str, *, lease_s: float | None = None) -> Self:
        """Wait until nobody holds `key`, and hold it.

        Raises
        ------
        StoreError
            The server cannot be asked.
        """
        lease = cls(bucket, key, lease_key(key), lease_s=lease_s or LEASE_S)
        pause, began, said = _FIRST_LOOK_S, _clock(), False
        version, since = None, began
        while True:
            asked = _clock()
            there, etag = lease._look()
            if etag != version:
                version, since = etag, _clock()
            if (not there.held or asked - since > there.lease_s + _GRACE_S) and lease._write(version, held=True):
                lease._thread.start()
                return lease
            if not said and asked - began > _SAY_AFTER_S:
                said = _say_who(key, there)
            time.sleep(pause * _DICE.uniform(0.5, 1.0))
            pause = min(1.5 * pause, _LAST_LOOK_S)

    def ensure_held(self) -> None:
        """Raise a StoreError where somebody else may hold the lock by now."""
        if self._is_lost():
            raise StoreError(
                f"the lock on {self._bucket.address.uri(self._key)} was lost: the server at"
                f" {self._bucket.address.endpoint} did not hear of its holder for {self._lease_s:g} s, because it was"
                " away, or this machine slept; start the command again: it goes on from what lies there now"
            )

    def _is_lost(self) -> bool:
        return self._taken_over or _clock() - self._renewed_at >= self._lease_s

    def give_back(self) -> None:
        """Let the next one in; where the server is away, the lease runs out by itself."""
        self._done.set()
        self._thread.join()
        if not self._is_lost():
            with suppress(StoreError):
                self._write(self._etag, held=False)

    def _keep(self) -> None:
        while not self._done.wait(self._lease_s / 3):
            try:
                if not self._write(self._etag, held=True):
                    self._taken_over = True
                    return
            except StoreError:
                continue  # asked again; `ensure_held` knows for how long the server has not answered

    def _write(self, expected: str | None, *, held: bool) -> bool:
        """Write the lease where `expected` lies; False where somebody else has written meanwhile."""
        began = _clock()
        self._renewals += 1
        note = LeaseNote(
            lease_id=self._id, owner=_owner(), held=held, lease_s=self._lease_s, renewals=self._renewals
        ).model_dump_json()
        etag = self._bucket.write_where(self._name, note.encode(), expected=expected)
        if etag is None:
            # An earlier renewal may have reached the server, though its answer never came back.
            there, lies_there = self._look()
            if there.lease_id != self._id:
                return False
            etag = self._bucket.write_where(self._name, note.encode(), expected=lies_there)
            if etag is None:
                return False
        self._etag, self._renewed_at = etag, began
        return True

    def _look(self) -> tuple[LeaseNote, str | None]:
        """What lies there, and its version; nothing is as good as one that was given back."""
        found = self._bucket.read(self._name)
        if found is None:
            return _NOBODY, None
        data, stat = found
        try:
            return LeaseNote.model_validate_json(data), stat.etag
        except ValidationError:
            # Whoever wrote that, it is not renewed: it runs out.
            return _SOMEBODY, stat.etag


_NOBODY = LeaseNote(lease_id="", owner="", held=False, lease_s=0.0, renewals=0)
_SOMEBODY = LeaseNote(lease_id="", owner="somebody unknown", held=True, lease_s=LEASE_S, renewals=0)


def lease_key(key: str) -> str:
    """Where the lease of `key` lies."""
    return f"{LOCKS}{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _clock() -> float:
    """Seconds of this machine, which go on while it sleeps: `time.monotonic` stands still then on Linux."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _say_who(key: str, there: LeaseNote) -> bool:
    from tasks.logbook import note

    note(f"Waiting for {key}, which {there.owner} holds")
    return True


def _owner() -> str:
    return f"{socket.gethostname()}, process {os.getpid()}"
