"""The calibration benchmark: what it claims to measure is what it measures, and a tiny run goes through."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import calibration, calibration_page, score_laws
from benchmarks.calibration import Asset, Plan, judge, observe, policy_of, rate_in_random_order, ringing, toy_asset
from benchmarks.calibration_page import bootstrap_means, make_cell, make_cells, write_page
from benchmarks.page import BEGIN, END
from engines.alarm import choose_alarm_rule, raise_rate
from engines.calibration import calibrate

TINY = Plan({3: 2, 5: 1}, held_out=11, learnt=3, fits=1, draws=2, modelled_draws=1, blocks=0)


def judged(normals: np.ndarray, held_out: np.ndarray, alpha: float) -> pd.DataFrame:
    return pd.DataFrame(judge(normals, held_out, method="split", alphas=[alpha])).set_index("rule")


def make_rows(observed: list[float], *, claimed: float = 0.1, clips: int = 1000) -> pd.DataFrame:
    return pd.DataFrame({"asset": "one", "clips": clips, "claimed": claimed, "observed": observed})


# --- what is observed ---------------------------------------------------------------------------------------------


def test_the_rate_in_random_order_is_that_of_all_orders() -> None:
    high, m, window = [True, True, True, False, False, False], 2, 3
    orders = np.array([[high[i] for i in order] for order in itertools.permutations(range(6))])
    assert rate_in_random_order(3, 6, m, window) == pytest.approx(ringing(orders, m, window).mean())


def test_a_clip_rings_only_when_it_exceeds_itself() -> None:
    high = np.array([[True, True, False, True, False, False, True]])
    assert ringing(high, 2, 3)[0].tolist() == [False, True, False, False, False]


def test_an_observed_rate_is_the_share_of_held_out_clips_above_the_threshold() -> None:
    normals, held_out = np.arange(9.0), np.array([0.5, 7.5, 8.5, 9.5, 1.0])
    row = judged(normals, held_out, 0.1).loc["clip"]
    assert (row["claimed"], row["observed"], row["certified"]) == (0.1, 0.4, True)
    assert row["above"] == (0.4 > 1 - 0.05 ** (1 / 9))


def test_where_n_carries_no_alpha_the_claim_is_modelled_and_has_no_bound() -> None:
    row = judged(np.arange(5.0), np.arange(20.0), 0.1).loc["clip"]
    assert row["kind"] == "gamma_tail"
    assert not row["certified"]
    assert "above" not in row or np.isnan(row["above"])


def test_an_alarm_rule_claims_and_observes_the_clips_that_ring() -> None:
    rng = np.random.default_rng(0)
    normals, held_out = rng.normal(size=30), rng.normal(size=500)
    policy = policy_of(0.05).model_copy(update={"rule": "m_of_n"})
    rule = choose_alarm_rule(normals, policy, calibrate(normals, policy, method="split"), method="split")
    row = judged(normals, held_out, 0.05).loc["m_of_n"]
    assert rule.rank is not None
    assert row["claimed"] == pytest.approx(raise_rate(30, rule.rank, m=rule.m, window=rule.window))
    high = held_out > rule.clip_threshold
    assert row["in_order"] == pytest.approx(ringing(high[None], rule.m, rule.window).mean())
    shuffled = np.stack([rng.permutation(high) for _ in range(400)])
    assert row["observed"] == pytest.approx(ringing(shuffled, rule.m, rule.window).mean(), rel=0.05)


def test_a_day_counts_the_alarms_that_the_alarm_state_raises() -> None:
    policy = policy_of(0.01).model_copy(update={"rule": "m_of_n", "hold_off_s": 0.0})
    normals = np.random.default_rng(1).normal(size=30)
    rule = choose_alarm_rule(normals, policy, calibrate(normals, policy, method="split"), method="split")
    high = np.zeros(60, dtype=bool)
    assert score_laws._count_alarms(high, rule, policy) == 0
    high[[5, 6, 7, 40, 41, 42]] = True
    assert score_laws._count_alarms(high, rule, policy) == 2
    assert score_laws._count_alarms(high, rule, policy.model_copy(update={"hold_off_s": 86_400.0})) == 1


def test_a_stream_has_the_correlation_asked_for_and_unit_variance() -> None:
    stream = score_laws._autoregression(np.random.default_rng(0), (400, 500), 0.9)
    assert np.corrcoef(stream[:, :-1].ravel(), stream[:, 1:].ravel())[0, 1] == pytest.approx(0.9, abs=0.01)
    assert stream[:, 0].std() == pytest.approx(1.0, abs=0.1)
    assert stream.std() == pytest.approx(1.0, abs=0.02)


# --- cells and verdicts -------------------------------------------------------------------------------------------


def test_a_rate_that_lies_above_its_claim_is_broken() -> None:
    rates = np.random.default_rng(0).beta(20, 80, size=60).tolist()
    assert make_cell(make_rows(rates, claimed=0.1)).verdict == "broken"
    assert make_cell(make_rows(rates, claimed=0.2)).verdict == "holds"


def test_silence_is_no_proof_where_no_alarm_was_to_be_expected() -> None:
    assert make_cell(make_rows([0.0] * 40, claimed=0.001, clips=20)).verdict == "open"
    assert make_cell(make_rows([0.0] * 40, claimed=0.001, clips=1000)).verdict == "holds"


def test_few_calibration_sets_give_no_verdict() -> None:
    assert make_cell(make_rows([0.3] * 4)).verdict == "open"
    assert make_cell(make_rows([0.3] * 40)).verdict == "broken"


def test_a_bootstrap_draws_calibration_sets_within_each_asset() -> None:
    quiet, loud = np.zeros((10, 1)), np.ones((10, 1))
    assert np.ptp(bootstrap_means([quiet, loud], resamples=200)) == 0
    assert np.ptp(bootstrap_means([np.concatenate([quiet, loud])], resamples=200)) > 0.2


def test_exchangeable_scores_of_split_hold_in_every_cell() -> None:
    rng, rows = np.random.default_rng(3), []
    for _ in range(150):
        scores = rng.standard_t(3, size=230)
        rows += judge(scores[:30], scores[30:], method="split", alphas=[0.2, 0.1, 0.05])
    told = {"part": "toy", "asset": "one", "engine": "a", "method": "split"}
    cells = make_cells(pd.DataFrame(rows).assign(**told))
    assert [cell.verdict for cell in cells.values()] == ["holds"] * 4


def test_scores_that_an_engine_has_learnt_by_heart_are_found_out() -> None:
    rng, rows = np.random.default_rng(4), []
    for _ in range(30):
        rows += judge(rng.normal(size=30) - 1, rng.normal(size=200), method="leave_one_out", alphas=[0.1])
    told = {"part": "toy", "asset": "one", "engine": "a", "method": "leave one out"}
    assert {cell.verdict for cell in make_cells(pd.DataFrame(rows).assign(**told)).values()} == {"broken"}


# --- a tiny run ---------------------------------------------------------------------------------------------------


@pytest.fixture
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_page, "RESAMPLES", 200)


@pytest.fixture(scope="module")
def asset() -> Asset:
    return toy_asset("fan", normals=18, source=8, seconds=0.6)


def test_toy_normals_are_in_the_order_of_recording(asset: Asset) -> None:
    assert asset.source is not None
    assert (len(asset.normals), len(asset.source)) == (18, 8)
    assert {len(waveform) for _, waveform in asset.normals} == {9600}
    assert asset.normals.clips[0].clip_id.endswith("target_train_normal_0001")
    assert len({clip.clip_id for clip in asset.normals.clips}) == 18


def test_a_package_gives_all_its_target_normals_and_nothing_else(shared_data: Path) -> None:
    found = calibration.package_asset(shared_data / "compressor.zip")
    assert len(found.normals) == 50
    assert found.source is not None
    assert len(found.source) == 40
    assert sorted(calibration.engine_makers(found.source)) == ["a", "b", "ensemble"]


@pytest.mark.usefixtures("_few_resamples")
def test_a_tiny_run_writes_page_and_picture_and_keeps_the_notes(asset: Asset, tmp_path: Path) -> None:
    makers = calibration.engine_makers(asset.source)
    rows = pd.DataFrame([row for name in "ab" for row in observe(asset, name, makers[name], TINY)])
    assert set(rows["method"]) == {"leave one out", "split"}
    assert set(rows["n"]) == {3, 5}
    assert rows.loc[rows["certified"], "method"].eq("split").all()
    page = tmp_path / "calibration.md"
    page.write_text(f"{BEGIN}\nBy hand.\n{END}\n")
    write_page(tmp_path, rows, {"seconds": 60.0, "workers": 1, "cores": 2}, {"motor": "not run: motor.zip is not here"})
    text = page.read_text()
    assert "By hand." in text
    assert "not run: motor.zip is not here" in text
    assert (tmp_path / "calibration.svg").read_text().startswith("<?xml")
    again = tmp_path / "again"
    again.mkdir()
    write_page(again, rows, {"seconds": 60.0, "workers": 1, "cores": 2}, {})
    assert (again / "calibration.svg").read_bytes() == (tmp_path / "calibration.svg").read_bytes()


@pytest.mark.usefixtures("_few_resamples")
def test_known_laws_have_every_kind_of_claim(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("COUNTS", "RULE_COUNTS", "STREAM_COUNTS"):
        monkeypatch.setattr(score_laws, name, (5, 30))
    monkeypatch.setattr(score_laws, "LAWS", {"normal": score_laws.LAWS["normal"]})
    for name in ("SETS", "MODELLED_SETS", "RULE_SETS", "STREAM_SETS"):
        monkeypatch.setattr(score_laws, name, 6)
    rows = pd.DataFrame(score_laws.observe_laws())
    assert set(rows["rule"]) == {"clip", "m_of_n", "stream"}
    assert set(rows["kind"]) == {"conformal", "gamma_tail"}
    write_page(tmp_path, rows, {"seconds": 1.0, "workers": 1, "cores": 1}, {})
    assert "### Clips that depend on their neighbours" in (tmp_path / "calibration.md").read_text()


def test_an_absent_package_is_named_and_all_else_runs(tmp_path: Path) -> None:
    jobs, absent = calibration.plan_jobs(calibration.parse(["--data", str(tmp_path), "--machines", "fan"]))
    assert [job.name for job in jobs] == ["fan", "laws"]
    assert absent == {name: f"not run: {name}.zip is not here" for name in ("compressor", "motor")}
