"""Whatever befalls a small package, in whichever order: once all is well again, one run ends with what is right."""

from __future__ import annotations

import itertools
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tasks.s3_store import S3Store
from tasks.store import FolderStore, ObjectStore
from tests.faults.disks import FullFrom, flip_bit
from tests.faults.outputs import differing, half_runs, outputs
from tests.faults.rig import DONE, FAILED, Hands, Job, Kill, go_on, hands
from tests.faults.servers import BUCKET, MortalPrefect, MortalS3

pytestmark = pytest.mark.faults

EXAMPLES, STEPS = 3, 4
WRITES = 60
"""More than an onboarding of the package makes: some faults come too late."""
LONGEST_S = 8.0
"""That a store is away; some absences are outlasted."""
writes = st.integers(min_value=1, max_value=WRITES)
moments = st.sampled_from(["before", "half", "after"])


class Onboarding(RuleBasedStateMachine):
    """A store, a package, and what befalls both wherever the store is."""

    hands: ClassVar[Hands]
    package: ClassVar[Path]
    right: ClassVar[dict[str, bytes]]
    server: ClassVar[MortalPrefect]
    store: ObjectStore
    ends: tuple[int, ...] = (DONE,)
    """How a run may end that nothing befalls."""

    def job(self, **more: Any) -> Job:
        return Job(self.store.url, str(self.package), **more)

    @rule(nth=writes, moment=moments)
    def kill(self, nth: int, moment: Any) -> None:
        code = self.hands.run(self.job(kill=Kill("", moment, nth)))
        assert code in (-signal.SIGKILL, *self.ends), self.hands.said()

    @rule(nth=writes, moment=moments)
    def two_at_once(self, nth: int, moment: Any) -> None:
        one, other = self.hands.start(self.job(kill=Kill("", moment, nth))), self.hands.start(self.job())
        assert self.hands.wait(other) in self.ends, self.hands.said()
        self.hands.wait(one)

    @rule(nth=writes)
    def restart_the_prefect_server(self, nth: int) -> None:
        self.lose_in_a_run(nth, self.server.kill, self.server.start)

    def lose_in_a_run(self, nth: int, lose: Callable[[], object], bring_back: Callable[[], object]) -> None:
        """Something is away from a write on, if the run comes so far; it may go on, and it may fail."""
        process = self.hands.start(self.job(kill=Kill("", "before", nth, signal.SIGSTOP)))
        stands = self.hands.stands_still(process)
        lose()
        if stands:
            go_on(process)
        bring_back()
        assert self.hands.wait(process) in (DONE, FAILED), self.hands.said()

    def mend(self) -> None:
        """Undo what no run could."""

    def teardown(self) -> None:
        self.mend()
        self.hands.finish(self.job())
        assert differing(self.right, outputs(self.store)) == {}
        assert half_runs(self.store) == set()


class InFolder(Onboarding):
    """What befalls disks."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="alp-faults-"))
        self.store: FolderStore = FolderStore(self.folder / "store")
        self.damaged: dict[Path, bytes] = {}

    @rule(nth=writes)
    def fill_the_disk(self, nth: int) -> None:
        code = self.hands.run(self.job(faults=(FullFrom(nth),)))
        assert code in (FAILED, DONE), self.hands.said()

    @precondition(lambda self: not self.damaged)
    @rule(which=st.floats(0, 1), at=st.floats(0, 1))
    def flip_a_bit(self, which: float, at: float) -> None:
        files = [self.store.root / key for key in self.store.list_keys()]
        files = [path for path in files if path.stat().st_size]
        if files:
            path = files[min(int(which * len(files)), len(files) - 1)]
            self.damaged[path] = path.read_bytes()
            flip_bit(path, at=at)
            # What is damaged may be no part of what is left to do.
            self.ends = (DONE, FAILED)

    @precondition(lambda self: self.damaged)
    @rule()
    def mend(self) -> None:
        for path, sound in self.damaged.items():
            path.write_bytes(sound)
        self.damaged.clear()
        self.ends = (DONE,)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            shutil.rmtree(self.folder)


class InBucket(Onboarding):
    """What befalls servers."""

    s3: ClassVar[MortalS3]
    names: ClassVar[Iterator[int]]

    def __init__(self) -> None:
        super().__init__()
        self.store = S3Store.open(self.s3.start().url(BUCKET, f"random-{next(self.names)}"))

    def job(self, **more: Any) -> Job:
        return super().job(faults=(give_up_leases_soon,), environment=self.s3.environment, **more)

    @rule(nth=writes, away_s=st.floats(0, LONGEST_S))
    def restart_the_s3_server(self, nth: int, away_s: float) -> None:
        def bring_back() -> None:
            time.sleep(away_s)
            self.s3.start()

        self.lose_in_a_run(nth, self.s3.kill, bring_back)


def give_up_leases_soon() -> None:
    """Whoever waits for a lock of one that was killed waits for seconds and not half a minute."""
    import tasks.s3_lease

    tasks.s3_lease.LEASE_S = 15.0


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("where", [InFolder, InBucket])
def test_after_any_faults_in_any_order_a_run_ends_with_what_is_right(
    where: type[Onboarding],
    prefect: MortalPrefect,
    package: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if where is InBucket:
        InBucket.s3, InBucket.names = request.getfixturevalue("s3"), itertools.count()
    with hands(prefect.url, tmp_path / "logs") as workers:
        Onboarding.hands, Onboarding.package = workers, package
        Onboarding.right, Onboarding.server = undisturbed, prefect
        run_state_machine_as_test(
            where,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
