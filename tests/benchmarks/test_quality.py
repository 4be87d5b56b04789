"""The quality benchmark: draws, intervals and peers are what the page says, and a tiny run goes through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import choosing, methods, peers, quality, sets
from benchmarks.intervals import Asset, Bootstrap, Scored, ranking, weighted_auc
from benchmarks.page import BEGIN, END, write_page
from benchmarks.peers import Autoencoder, BankEmbedding, Features, LogMelNeighbour, PooledDetector, hear
from benchmarks.results import summarize
from engines.encoders.logmel import LogMelEncoder
from engines.memory_banks import MemoryBanks
from engines.metrics import evaluate
from schemas.errors import UsageError

FEW = {
    ("source", "train", "normal"): 8,
    ("target", "train", "normal"): 4,
    ("source", "test", "normal"): 2,
    ("target", "test", "normal"): 3,
    ("source", "test", "anomaly"): 2,
    ("target", "test", "anomaly"): 2,
}
ENCODERS = {"ast": methods.NO_WEIGHTS, "logmel": ""}


@pytest.fixture(scope="module")
def bench() -> sets.BenchSet:
    """21 toy clips of a fan, the first second of each, of a seed that no figure is taken from."""
    whole = sets.toy_set("fan", 100, counts=FEW)
    return sets.BenchSet("toy", "fan", 100, whole.clips, [samples[:16_000].copy() for samples in whole.samples])


@pytest.fixture(scope="module", autouse=True)
def short_training() -> Iterator[None]:
    """An autoencoder that trains for a few steps is as good for these tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SOURCE_STEPS", "TARGET_STEPS", "ALONE_STEPS"):
            patch.setattr(peers, name, 5)
        yield


@pytest.fixture(scope="module")
def draw(bench: sets.BenchSet) -> sets.Draw:
    return next(sets.draws(bench, shots=(3,), redraws=1))


# --- draws ----------------------------------------------------------------------------------------------------------


def test_support_is_never_tested_and_the_rest_of_the_pool_always_is(bench: sets.BenchSet) -> None:
    for one in sets.draws(bench, shots=(3, 5), redraws=3):
        assert len(one.support) == one.shots
        assert set(one.support) | set(one.tests) == {*bench.indices("pool"), *bench.indices("test")}
        assert not set(one.support) & set(one.tests)
        assert not set(bench.indices("source")) & set(one.tests)


def test_draws_are_the_same_every_time_and_differ_from_redraw_to_redraw(bench: sets.BenchSet) -> None:
    drawn = list(sets.draws(bench, shots=(3,), redraws=3))
    assert drawn == list(sets.draws(bench, shots=(3,), redraws=3))
    assert len({one.support for one in drawn}) == 3


def test_a_pool_with_nothing_left_to_test_is_refused(bench: sets.BenchSet) -> None:
    with pytest.raises(UsageError, match="a pool of 7 normals"):
        list(sets.draws(bench, shots=(7,)))


def test_anomalies_are_never_learnt_from(bench: sets.BenchSet) -> None:
    for role in ("pool", "source"):
        assert not any(bench.clips[i].is_anomaly for i in bench.indices(role))
    assert {bench.clips[i].domain for i in bench.indices("pool")} == {"target"}
    assert {bench.clips[i].domain for i in bench.indices("source")} == {"source"}


def test_real_packages_give_the_roles_that_their_tables_say(shared_data: Path) -> None:
    found = sets.package_set(shared_data / "compressor.zip")
    assert [len(found.indices(role)) for role in ("source", "pool", "test")] == [40, 50, 60]
    motor = sets.package_set(shared_data / "motor.zip")
    assert motor.source is None
    assert motor.clips[0].clip.bandwidth_hz == 500.0


# --- intervals ------------------------------------------------------------------------------------------------------


def make_asset(seed: int, scores: dict[str, list[np.ndarray]], clips: int) -> Asset:
    rng = np.random.default_rng(seed)
    return Asset(
        is_anomaly=np.arange(clips) % 3 == 0,
        is_source=rng.permutation(np.arange(clips) % 2 == 0),
        redraws={row: [Scored(np.arange(clips), one) for one in runs] for row, runs in scores.items()},
    )


@pytest.mark.parametrize("step", [0.0, 0.5], ids=["distinct", "tied"])
def test_without_resampling_metrics_are_those_of_the_engines(step: float) -> None:
    scores = np.random.default_rng(1).normal(size=60)
    scores = np.round(scores / step) * step if step else scores
    asset = make_asset(0, {"one": [scores]}, 60)
    found = ranking(asset, asset.redraws["one"][0], np.ones((1, 60)))
    expected = evaluate(scores, asset.is_anomaly, np.where(asset.is_source, "source", "target"), bootstrap=0)
    for name in ("auc", "auc_source", "auc_target", "official"):
        assert found[name][0] == pytest.approx(getattr(expected, name), abs=1e-12)


def test_a_weight_of_two_is_a_clip_that_stands_twice() -> None:
    rng = np.random.default_rng(2)
    scores, anomaly, weights = rng.normal(size=30), rng.random(30) < 0.4, rng.integers(0, 3, 30)
    twice = np.repeat(np.arange(30), weights)
    weighted = weighted_auc(scores, (weights * anomaly)[None] * 1.0, (weights * ~anomaly)[None] * 1.0, max_fpr=0.1)
    plain = weighted_auc(scores[twice], anomaly[None, twice] * 1.0, ~anomaly[None, twice] * 1.0, max_fpr=0.1)
    assert weighted[0] == pytest.approx(plain[0], abs=1e-12)


def test_methods_that_rank_alike_differ_by_nothing() -> None:
    scores = np.random.default_rng(3).normal(size=60)
    bootstrap = Bootstrap([make_asset(0, {"one": [scores], "other": [np.exp(scores)]}, 60)], resamples=50)
    found = bootstrap.difference(bootstrap.of("one"), bootstrap.of("other"), "auc")
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def test_a_method_that_sees_the_truth_is_better_than_one_that_guesses() -> None:
    rng, assets = np.random.default_rng(4), []
    for seed in range(3):
        truth = np.arange(60) % 3 == 0
        assets.append(make_asset(seed, {"sees": [truth + 0.1 * rng.random(60)], "guesses": [rng.random(60)]}, 60))
    bootstrap = Bootstrap(assets, resamples=200)
    found = bootstrap.difference(bootstrap.of("sees"), bootstrap.of("guesses"), "auc_target")
    assert found is not None
    assert found.low > 0.2
    assert found.low < found.mean < found.high


def test_testing_the_same_clips_again_does_not_narrow_an_interval() -> None:
    rng = np.random.default_rng(5)
    one, other = rng.normal(size=60), rng.normal(size=60)
    widths = []
    for redraws in (1, 5):
        asset = make_asset(0, {"one": [one] * redraws, "other": [other] * redraws}, 60)
        bootstrap = Bootstrap([asset], resamples=1000)
        found = bootstrap.difference(bootstrap.of("one"), bootstrap.of("other"), "auc")
        assert found is not None
        widths.append(found.high - found.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_what_is_not_defined_has_no_interval() -> None:
    asset = Asset(
        is_anomaly=np.arange(20) % 2 == 0,
        is_source=np.zeros(20, dtype=bool),
        redraws={
            row: [Scored(np.arange(20), np.random.default_rng(seed).normal(size=20))] for seed, row in enumerate("ab")
        },
    )
    bootstrap = Bootstrap([asset], resamples=20)
    first, second = bootstrap.of("a"), bootstrap.of("b")
    assert bootstrap.difference(first, second, "official") is None
    assert bootstrap.difference(first, second, "auc") is not None


# --- peers ----------------------------------------------------------------------------------------------------------


def make_peers() -> dict[str, Any]:
    return {
        "log-mel kNN": lambda: LogMelNeighbour(Features(hear)),
        "autoencoder": lambda: Autoencoder(Features(hear), {}),
    }


@pytest.mark.parametrize("name", make_peers())
def test_a_peer_scores_a_clip_alone_as_beside_others(name: str, bench: sets.BenchSet, draw: sets.Draw) -> None:
    peer = make_peers()[name]().fit(bench.clip_set(draw.support), bench.source)
    together = peer.decision_function(bench.clip_set(draw.tests))
    alone = np.array([peer.decision_function(bench.clip_set([i]))[0] for i in draw.tests])
    assert np.isfinite(together).all()
    np.testing.assert_allclose(alone, together, rtol=1e-4)


def test_the_nearest_neighbour_peer_knows_its_own_normals(bench: sets.BenchSet, draw: sets.Draw) -> None:
    target = bench.clip_set(draw.support)
    for source in (bench.source, None):
        peer = LogMelNeighbour(Features(hear)).fit(target, source)
        assert (
            peer.decision_function(target).max() < peer.decision_function(bench.clip_set(bench.indices("test"))).max()
        )


def test_an_autoencoder_that_went_on_from_the_source_scores_as_one_that_began_there(
    bench: sets.BenchSet, draw: sets.Draw
) -> None:
    features, kept = Features(hear), {}
    tests = bench.clip_set(draw.tests[:3])
    other = bench.clip_set(bench.indices("pool")[-3:])
    Autoencoder(features, kept).fit(other, bench.source)
    again = Autoencoder(features, kept).fit(bench.clip_set(draw.support), bench.source).scores(tests)
    fresh = Autoencoder(Features(hear), {}).fit(bench.clip_set(draw.support), bench.source).scores(tests)
    for name in ("mse", "mahalanobis"):
        np.testing.assert_array_equal(again[name], fresh[name])


def test_the_embedding_given_to_pyod_is_engine_b_s(bench: sets.BenchSet, draw: sets.Draw) -> None:
    target, source = bench.clip_set(draw.support), bench.source
    assert source is not None
    engine = MemoryBanks(LogMelEncoder(), workers=1).fit(target, source)
    vectors = np.stack(BankEmbedding(LogMelEncoder()).learn(target, source).of(source))
    order = np.argsort([clip.clip_id for clip in source.clips])
    np.testing.assert_array_equal(vectors[order], engine._require_fit().source.astype(np.float32))


@pytest.mark.parametrize("kind", ["knn", "iforest"])
def test_pyod_s_detectors_run_on_it(kind: Any, bench: sets.BenchSet, draw: sets.Draw) -> None:
    pytest.importorskip("pyod", reason="pyod comes with the group bench")
    peer = PooledDetector(kind, BankEmbedding(LogMelEncoder())).fit(bench.clip_set(draw.support), bench.source)
    assert np.isfinite(peer.decision_function(bench.clip_set(draw.tests))).all()


# --- the run --------------------------------------------------------------------------------------------------------


def test_sharing_work_between_draws_changes_no_score(bench: sets.BenchSet) -> None:
    one, other = sets.draws(bench, shots=(3,), redraws=2)
    b = next(method for method in methods.methods(ENCODERS, auto="logmel") if method.rows == ("b/logmel",))
    shelf = methods.Shelf(bench)
    methods.run_method(b, shelf, one)
    shared = methods.run_method(b, shelf, other)["b/logmel"]
    engine = MemoryBanks(LogMelEncoder(), workers=1).fit(bench.clip_set(other.support), bench.source)
    assert shared["scores"] == engine.decision_function(bench.clip_set(other.tests)).tolist()
    assert shared["normal_scores"] == engine.normal_scores().tolist()


def make_job(**changes: Any) -> quality.Job:
    fields = {
        "name": "toy", "machine": "fan", "seed": 100, "package": "", "shots": (3,), "redraws": 2,
        "encoders": tuple(ENCODERS.items()), "auto": "logmel", "auto_alone": "logmel",
    }  # fmt: skip
    return quality.Job(**{**fields, **changes})


@pytest.fixture(scope="module")
def record(bench: sets.BenchSet) -> dict[str, Any]:
    """What a job leaves, as it lies in the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "toy_set", lambda machine, seed: bench)
        found: dict[str, Any] = json.loads(json.dumps(quality.run_job(make_job())))
    return found


def test_a_job_scores_every_row_or_says_why_not(record: dict[str, Any]) -> None:
    assert [(draw["shots"], draw["redraw"]) for draw in record["draws"]] == [(3, 0), (3, 1)]
    for draw in record["draws"]:
        outcomes = draw["outcomes"]
        assert outcomes["a/ast"] == outcomes["b/ast"] == {"why": methods.NO_WEIGHTS}
        assert outcomes["c"] == {"why": methods.NO_COLUMNS}
        # 8 source normals are fewer than the router asks B for.
        assert outcomes["routed"] == {"scores": outcomes["a/logmel"]["scores"], "chose": "a/logmel"}
        assert outcomes["ensemble"]["why"].startswith("not eligible")
        for row in (
            "a/logmel",
            "b/logmel",
            "b/logmel/no mixup",
            "b/logmel/not shrunk",
            "log-mel kNN",
            "autoencoder MSE",
        ):
            assert len(outcomes[row]["scores"]) == len(draw["tests"])


def test_the_page_holds_every_row_and_keeps_the_notes_written_by_hand(record: dict[str, Any], tmp_path: Path) -> None:
    costs = {"rows": {"a/logmel": [{"shots": 3, "tests": 10, "fit_s": 1.25, "score_s": 0.1, "peak_mb": 321.0}]}}
    summary = {
        "run": quality.describe_run(quality.parse(["--quick"]), ENCODERS, ("logmel", "lite0"), 60.0),
        "sets": {
            "toy": summarize([record], {**costs, "floor_mb": 200.0}, auto="logmel"),
            "motor": {"why": "not run: motor.zip is not here"},
        },
    }
    page = tmp_path / "quality.md"
    write_page(page, summary)
    first = page.read_text(encoding="utf-8")
    assert "| A, ast | not run: weights absent |" in first
    assert "| 1.25 | 10.0 | 321 |" in first
    assert "not run: motor.zip is not here" in first
    assert "B is not worse than log-mel kNN" in first
    page.write_text(first.replace(f"{BEGIN}\n{END}", f"{BEGIN}\nSeen by hand.\n{END}"), encoding="utf-8")
    write_page(page, summary)
    assert page.read_text(encoding="utf-8") == first.replace(f"{BEGIN}\n{END}", f"{BEGIN}\nSeen by hand.\n{END}")


def test_the_figures_are_those_of_the_metrics(record: dict[str, Any]) -> None:
    row = summarize([record], {"rows": {}, "floor_mb": None}, auto="logmel")["shots"]["3"]["rows"]["a/logmel"]
    domain = np.where(record["is_source"], "source", "target")
    aucs = []
    for draw in record["draws"]:
        tests = draw["tests"]
        anomaly = np.array(record["is_anomaly"])[tests]
        aucs.append(evaluate(draw["outcomes"]["a/logmel"]["scores"], anomaly, domain[tests], bootstrap=0).auc)
    assert row["auc"] == {"mean": pytest.approx(np.mean(aucs)), "sd": pytest.approx(np.std(aucs, ddof=1))}


def test_a_job_that_is_in_the_cache_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a job was run")

    monkeypatch.setattr(quality, "run_job", refuse)
    (tmp_path / "toy-fan-100.json").write_text('{"seconds": 1}', encoding="utf-8")
    assert quality.run_all([make_job()], tmp_path, workers=1) == [{"seconds": 1}]


def test_a_package_that_is_not_here_is_told_not_run(tmp_path: Path) -> None:
    options = quality.parse(["--sets", "motor", "toy", "--machines", "fan", "--data", str(tmp_path)])
    jobs, absent = quality.plan_jobs(options, ENCODERS, ("logmel", "lite0"))
    assert absent == {"motor": "not run: motor.zip is not here"}
    assert [job.title for job in jobs] == ["toy-fan-0-costs", "toy-fan-0", "toy-fan-1", "toy-fan-2"]


def test_a_cost_names_its_draw_and_takes_time(bench: sets.BenchSet, draw: sets.Draw) -> None:
    a = next(method for method in methods.methods(ENCODERS, auto="logmel") if method.rows == ("a/logmel",))
    cost = methods.measure(a, bench, (), draw)
    assert (cost.shots, cost.tests) == (3, len(draw.tests))
    assert min(cost.fit_s, cost.score_s) > 0


def test_a_failure_in_a_fork_is_told() -> None:
    assert quality._in_fork(lambda: 7) == 7
    with pytest.raises(RuntimeError, match="its cost was measured"):
        quality._in_fork(lambda: 1 / 0)


def test_the_record_of_a_package_changes_with_its_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "a.zip", tmp_path / "b.zip"
    one.write_bytes(b"one")
    other.write_bytes(b"other")
    titles = {make_job(name="motor", package=str(path)).title for path in (one, other)}
    assert len(titles) == 2


def test_routed_and_ensemble_cost_what_fitting_their_engines_costs(bench: sets.BenchSet, draw: sets.Draw) -> None:
    enough = choosing.RoutingSettings(min_source=5)
    data = choosing.describe(draw.shots, bench.source, ())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choosing, "LIMITS", enough)
        routed, ensemble = choosing.choice_methods(data, auto="logmel", alone="logmel")
        (alone,) = choosing.choice_methods(choosing.describe(3, None, ()), auto="logmel", alone="logmel")
    support, tests = bench.clip_set(draw.support), bench.clip_set(draw.tests)
    b = MemoryBanks(LogMelEncoder(), workers=1).fit(support, bench.source).decision_function(tests)
    shelf = methods.Shelf(bench)
    np.testing.assert_array_equal(routed.make(shelf).fit(support, bench.source).decision_function(tests), b)
    assert ensemble.make(shelf).fit(support, bench.source).member_names == ("a", "b")
    assert alone.make(shelf).fit(support, None).decision_function(tests).shape == b.shape
