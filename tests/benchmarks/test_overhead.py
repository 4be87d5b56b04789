"""The overhead benchmark compares the same work, and its parts add up; no time is judged here."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from prefect import Flow, Task, flow, task
from prefect.artifacts import create_markdown_artifact

from benchmarks import overhead
from benchmarks.overhead import FLOWS, LIMIT, TASKS, TOLD, Lap, Pair, Stopwatch


def pair(prefect: float, plain: float, *, after: float = 0.0, **seconds: float) -> Pair:
    """Two laps of so many seconds in all, `after` of Prefect's once the flow had returned."""
    times = {FLOWS: 17, TASKS: 52}
    return Pair(Lap(prefect - after, prefect, seconds, times, "b"), Lap(plain, plain, {}, {}, "b"))


def test_the_ratio_is_of_the_medians_and_its_spread_of_the_pairs() -> None:
    result = overhead.conclude([pair(11, 10), pair(13, 10), pair(40, 20)])

    assert result.ratio == pytest.approx(1.3)
    assert (result.lowest, result.highest) == (pytest.approx(1.1), pytest.approx(2.0))
    assert not result.within_limit


@pytest.mark.parametrize(("seconds", "within"), [(LIMIT * 100, True), (LIMIT * 100 + 0.1, False)])
def test_the_limit_is_kept_or_not(seconds: float, within: bool) -> None:
    assert overhead.conclude([pair(seconds, 100)]).within_limit is within


def test_the_parts_add_up_to_the_difference() -> None:
    seconds = {FLOWS: 1.0, TASKS: 0.5, TOLD: 0.25}
    result = overhead.conclude([pair(24, 20, after=1.5, **seconds), pair(22, 20, after=0.5, **seconds)])

    assert list(result.parts.values()) == [1.0, 0.5, 0.25, pytest.approx(1.0), pytest.approx(0.25)]
    assert sum(result.parts.values()) == pytest.approx(3.0)
    assert next(iter(result.parts)) == "starting and ending 17 flows"


def test_a_stopwatch_takes_off_what_lies_within(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(overhead.time, "monotonic", lambda: now[0])
    watch = Stopwatch()

    def work() -> str:
        now[0] += 10
        return "done"

    within = watch.within(TASKS, work)

    def call() -> str:
        now[0] += 2
        return str(within())

    assert watch.around(TASKS, call)() == "done"
    assert (watch.seconds[TASKS], watch.times[TASKS]) == (2, 1)


def test_without_prefect_flows_and_tasks_are_their_functions_and_nobody_is_told() -> None:
    @task
    def double(number: int) -> int:
        return 2 * number

    @flow
    def run(number: int) -> int:
        return number

    module = ModuleType("steps")
    vars(module).update(double=double, run=run, tell=create_markdown_artifact, other=sorted)
    overhead.without_prefect([module])

    assert (module.double(2), module.run(3), module.tell(markdown="x"), module.other([2, 1])) == (4, 3, None, [1, 2])


def test_every_module_of_flows_and_tasks_is_looked_through() -> None:
    found = [value for _, _, value in overhead.bindings(overhead.our_modules())]
    names = {value.name for value in found if isinstance(value, Flow | Task)}
    assert {"onboard", "qa", "score", "Judge every recording", "Publish artifacts"} <= names


def test_the_side_without_prefect_reaches_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    plain = overhead.environment(tmp_path, "plain", "http://127.0.0.1:1/api")
    prefect = overhead.environment(tmp_path, "prefect", "http://127.0.0.1:1/api")

    assert "PREFECT_API_URL" not in plain
    assert plain["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] == "false"
    assert prefect == plain | {"PREFECT_API_URL": "http://127.0.0.1:1/api"}
