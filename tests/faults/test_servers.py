"""Servers that die under a run and come back: it goes on, or ends saying why, and started again ends as it should."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from schemas.errors import StoreError
from tasks.s3_store import S3Store
from tasks.store import FolderStore
from tests.deployments.prefect_rig import await_true
from tests.faults.outputs import differing, half_runs, outputs
from tests.faults.rig import DONE, FAILED, Hands, Job, Kill, go_on, hands
from tests.faults.servers import BUCKET, MortalPrefect, MortalS3
from tests.s3_server import Proxy, S3Server

pytestmark = pytest.mark.faults

AT = {"qa": r"/audio/", "standardize": r"^packages/.*/quality\.json$", "score": r"/models/.*/engine\.json$",
      "report": r"^library/"}  # fmt: skip
SHORT_S, OUTLASTED_S = 1.5, 5.0
"""How long a store is away, and what requests outlast at the least: a busy machine is slow to bring it back."""
MOST_TRIES = 4
_LARGE_PIECE = 2048


def lose_server(s3: MortalS3, stage: str, package: Path, workers: Hands) -> tuple[S3Store, Job, BaseProcess]:
    """An onboarding that stands still at a write of a stage, and whose server is gone."""
    store = S3Store.open(s3.start().url(BUCKET, stage))
    job = Job(store.url, str(package), environment=s3.environment)
    process = workers.start(replace(job, kill=Kill(AT[stage], "before", signal=signal.SIGSTOP)))
    workers.wait_until_stopped(process)
    s3.kill()
    return store, job, process


def can_read(store: S3Store) -> bool:
    """Whether a server that answers has back all that it holds."""
    try:
        for key in store.list_keys():
            store.get(key)
    except StoreError:
        return False
    return True


@pytest.mark.parametrize("stage", ["qa", "standardize", "report"])
def test_an_s3_server_that_dies_in_a_run_and_is_back_at_once_is_waited_for(
    stage: str, s3: MortalS3, package: Path, undisturbed: dict[str, bytes], workers: Hands
) -> None:
    store, job, process = lose_server(s3, stage, package, workers)
    gone_at = time.monotonic()
    go_on(process)
    time.sleep(SHORT_S)
    s3.start()
    # For some seconds more it may answer that it cannot read.
    await_true(lambda: can_read(store), seconds=120, what="the server to have back what it holds")
    away_s = time.monotonic() - gone_at
    if workers.wait(process) != DONE:
        assert away_s > OUTLASTED_S, workers.said()
        workers.finish(job)
    assert differing(undisturbed, outputs(store)) == {}
    assert half_runs(store) == set()


def test_an_s3_server_that_stays_away_ends_the_run_with_the_remedy_and_the_next_goes_on(
    s3: MortalS3, package: Path, undisturbed: dict[str, bytes], workers: Hands
) -> None:
    store, job, process = lose_server(s3, "score", package, workers)
    go_on(process)
    assert workers.wait(process) == FAILED
    assert f"{store.address.endpoint} does not answer" in workers.said()
    assert "check that the server runs" in workers.said()
    s3.start()
    workers.finish(job)
    assert differing(undisturbed, outputs(store)) == {}
    assert half_runs(store) == set()


class Flipping:
    """Flips a bit in every so manyth large piece that comes by; the small ones are mostly heads."""

    def __init__(self, every: int) -> None:
        self._every, self._seen = every, 0

    def __call__(self, piece: bytes) -> bytes:
        if len(piece) < _LARGE_PIECE:
            return piece
        self._seen += 1
        if self._seen % self._every:
            return piece
        spoilt = bytearray(piece)
        spoilt[-_LARGE_PIECE // 2] ^= 0x10
        return bytes(spoilt)


def test_bits_that_flip_on_the_way_to_and_from_a_bucket_change_nothing(
    s3: MortalS3, package: Path, undisturbed: dict[str, bytes], workers: Hands
) -> None:
    server = s3.start()
    proxy = Proxy(server.endpoint)
    try:
        proxy.meddle_in, proxy.meddle_out = Flipping(97), Flipping(41)
        through = S3Store.open(S3Server(proxy.endpoint).url(BUCKET, "flips"))
        job = Job(through.url, str(package), environment=s3.environment)
        ends = [workers.run(job)]
        while ends[-1] != DONE and len(ends) < MOST_TRIES:
            assert ends[-1] == FAILED
            ends.append(workers.run(job))
    finally:
        proxy.close()
    store = S3Store.open(server.url(BUCKET, "flips"))
    workers.finish(Job(store.url, str(package), environment=s3.environment))
    assert differing(undisturbed, outputs(store)) == {}
    assert half_runs(store) == set()


@pytest.mark.parametrize("stage", ["qa", "score"])
def test_a_prefect_server_that_is_restarted_in_a_run_costs_at_most_a_repetition(
    stage: str, prefect: MortalPrefect, package: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "store")
    with hands(prefect.url, tmp_path / "logs") as workers:
        process = workers.start(Job(store.url, str(package), kill=Kill(AT[stage], "before", signal=signal.SIGSTOP)))
        workers.wait_until_stopped(process)
        prefect.kill()
        go_on(process)
        prefect.start()
        if workers.wait(process) != DONE:
            workers.finish(Job(store.url, str(package)))
    assert differing(undisturbed, outputs(store)) == {}
    assert half_runs(store) == set()
