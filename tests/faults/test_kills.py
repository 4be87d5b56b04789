"""A worker that is killed, in every stage and around every write that counts, costs time and nothing else."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tasks.store import FolderStore
from tests.faults.outputs import differing, half_runs, outputs
from tests.faults.rig import Hands, Job, Kill

pytestmark = pytest.mark.faults

KILLS = {
    "ingest": [Kill(r"^raw/", "half"), Kill(r"^raw/", "after")],
    "qa": [
        Kill(r"/audio/", "half", nth=3),
        Kill(r"^runs/.*/standard\.parquet$", "after"),
        Kill(r"^runs/.*/quality\.json$", "before"),
    ],
    "standardize": [
        Kill(r"^packages/.*/metadata\.parquet$", "after"),
        Kill(r"^packages/.*/quality\.json$", "half"),
        Kill(r"^assets/.*/ledger\.parquet$", "half"),
        Kill(r"^assets/.*/ledger\.parquet$", "after"),
    ],
    "select": [Kill(r"/source\.parquet$", "after"), Kill(r"/selection\.json$", "half")],
    "score": [
        Kill(r"/models/.*/lineage\.json$", "after"),
        Kill(r"/models/[^/]*/engine\.json$", "before"),
        Kill(r"/models/[^/]*/engine\.json$", "after"),
        Kill(r"/background\.json$", "half"),
        Kill(r"/scores\.parquet$", "after", nth=2),
    ],
    "calibrate": [
        Kill(r"/models/.*/threshold\.json$", "after"),
        Kill(r"/scores\.csv$", "half"),
        Kill(r"/succession\.json$", "after"),
        Kill(r"/champion\.json$", "half"),
    ],
    "report": [
        Kill(r"^runs/.*/report\.html$", "half"),
        Kill(r"^library/", "after"),
        Kill(r"/fleet\.html$", "before"),
        Kill(r"^runs/.*/manifest\.json$", "half"),
        Kill(r"^runs/.*/manifest\.json$", "after"),
    ],
}
"""By stage, in the order in which a run comes by: each is met by the run that goes on after the one before."""


@pytest.mark.parametrize("stage", KILLS)
def test_a_run_that_is_killed_and_started_again_leaves_what_an_undisturbed_one_does(
    stage: str, package: Path, undisturbed: dict[str, bytes], workers: Hands, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "store")
    for kill in KILLS[stage]:
        assert workers.run(Job(store.url, str(package), kill=kill)) == -signal.SIGKILL, f"{kill}: {workers.said()}"
    workers.finish(Job(store.url, str(package)))
    assert differing(undisturbed, outputs(store)) == {}
    assert half_runs(store) == set()
