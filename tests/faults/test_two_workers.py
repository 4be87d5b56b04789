"""Two workers at once, on one package and on many, killed at random: every package is onboarded once, and the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tasks.inbox_log import read_log
from tasks.store import FolderStore
from tests.faults.outputs import differing, half_runs, outputs
from tests.faults.rig import Hands, Job, Kill, forget_at_once

pytestmark = pytest.mark.faults

PLANTS = {
    "acme": ("fan", "pump", "valve", "slider"),
    "haneul": ("bearing", "motor", "fan:1"),
    "mirae": ("gearbox", "compressor", "pump:1"),
}
"""Ten packages of three customers; each customer's are of machines of their own."""
KILLS = 10
SHORTEST_LIFE_S, LONGEST_LIFE = 0.5, 2.0
"""Of a worker that is killed; the longest in times of what a package takes here, so that every stage has its turn."""
PATIENCE_S = 600.0


@pytest.mark.parametrize("moment", [None, Kill(r"/audio/", "half", nth=3), Kill(r"/models/.*/engine\.json$", "before")])
def test_two_workers_on_one_package_end_as_one_does(
    moment: Kill | None, package: Path, undisturbed: dict[str, bytes], workers: Hands, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "store")
    one, other = workers.start(Job(store.url, str(package), kill=moment)), workers.start(Job(store.url, str(package)))
    assert workers.wait(other) == 0, workers.said()
    # Where the other one was there first, there is no such write to be killed at.
    assert workers.wait(one) in ((0,) if moment is None else (0, -signal.SIGKILL)), workers.said()
    assert differing(undisturbed, outputs(store)) == {}
    assert half_runs(store) == set()


def drop(store: FolderStore, packages: Callable[[str], Path], plants: Mapping[str, Sequence[str]] = PLANTS) -> None:
    """Packages in the inboxes of their customers."""
    for customer, names in plants.items():
        inbox = store.root / "inbox" / customer
        inbox.mkdir(parents=True)
        for name in names:
            path = shutil.make_archive(str(inbox / name.replace(":", "-")), "zip", packages(name))
            os.utime(path, (time.time() - 3600,) * 2)


def onboarded(store: FolderStore, customer: str) -> int:
    """How many of a customer's packages are known to be onboarded."""
    return sum(seen.became == "onboarded" for seen in read_log(store, customer).packages.values())


@pytest.mark.timeout(1800)
def test_ten_packages_of_three_customers_are_onboarded_by_two_workers_that_are_killed_at_random(
    packages: Callable[[str], Path], workers: Hands, tmp_path: Path
) -> None:
    calm, stormy = FolderStore(tmp_path / "calm"), FolderStore(tmp_path / "stormy")
    drop(calm, packages)
    shutil.copytree(calm.root, stormy.root)
    began = time.monotonic()
    for customer in PLANTS:
        workers.finish(Job(calm.url, customer=customer))
        assert onboarded(calm, customer) == len(PLANTS[customer])
    longest_life_s = LONGEST_LIFE * (time.monotonic() - began) / sum(map(len, PLANTS.values()))
    killed = work_in_a_storm(stormy, workers, random.Random(7), longest_life_s)
    assert killed >= KILLS // 2, "it was no storm"
    for customer, names in PLANTS.items():
        assert onboarded(stormy, customer) == len(names)
        manifests = list(stormy.list_keys(f"runs/{customer}/"))
        finished = [json.loads(stormy.get(key)) for key in manifests if key.endswith("/manifest.json")]
        assert "rejected" not in {each["result"]["verdict"] for each in finished}
    assert differing(outputs(calm, whatever_order=True), outputs(stormy, whatever_order=True)) == {}
    assert half_runs(stormy) == set()


def work_in_a_storm(store: FolderStore, workers: Hands, dice: random.Random, longest_life_s: float) -> int:
    """Two workers at most, one a customer, each killed at a moment of its own; how many were."""
    under_way: dict[str, tuple[BaseProcess, float]] = {}
    killed, deadline = 0, time.monotonic() + PATIENCE_S
    while under_way or any(onboarded(store, name) < len(PLANTS[name]) for name in PLANTS):
        assert time.monotonic() < deadline, f"{killed} were killed; {workers.said()}"
        idle = [name for name in PLANTS if name not in under_way and onboarded(store, name) < len(PLANTS[name])]
        if idle and len(under_way) < 2:
            name = dice.choice(idle)
            dies = killed + len(under_way) < KILLS
            lives_s = dice.uniform(SHORTEST_LIFE_S, longest_life_s) if dies else PATIENCE_S
            process = workers.start(Job(store.url, customer=name, faults=(forget_at_once,)))
            under_way[name] = process, time.monotonic() + lives_s
        for name, (process, dies_at) in list(under_way.items()):
            if process.is_alive() and time.monotonic() > dies_at:
                process.kill()
                process.join()
                killed += 1
            if not process.is_alive():
                del under_way[name]
        time.sleep(0.05)
    return killed
