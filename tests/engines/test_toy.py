"""The toy sounds: true to their labels, the same for ever, and as hard as they say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from engines.toy import (
    ANOMALY_TYPES,
    MACHINE_TYPES,
    MIC_POSITIONS,
    N_SAMPLES,
    NOISE_IDS,
    SAMPLE_RATE,
    ToyClip,
    ToyPlan,
    render_clip,
    render_components,
    section_ids,
)
from engines.toy.anomalies import Fault
from engines.toy.draws import Draws
from engines.toy.machines import SPEEDS
from engines.toy.microphone import MAX_TAPS, hear, machine_response, machine_taps
from engines.toy.noises import make_noise
from engines.toy.plan import CONDITIONS
from engines.toy.waves import from_db, periodic, rms, spectral_rms
from schemas.errors import UsageError

PLAN = ToyPlan(seed=2025)
CLIPS = PLAN.clips()
ANOMALIES = [clip for clip in CLIPS if clip.label == "anomaly"]


def pick(**wanted: object) -> ToyClip:
    """The first clip of the plan with these properties."""
    return next(clip for clip in CLIPS if all(getattr(clip, name) == value for name, value in wanted.items()))


def count(clips: list[ToyClip], **wanted: object) -> int:
    return sum(all(getattr(clip, name) == value for name, value in wanted.items()) for clip in clips)


def mean_power(signal: np.ndarray) -> float:
    return float(np.mean(np.square(signal)))


def octave_db(signal: np.ndarray) -> np.ndarray:
    """Power in the octaves from 62.5 Hz to 8 kHz, dB."""
    power = np.abs(np.fft.rfft(signal)) ** 2
    hertz = np.fft.rfftfreq(len(signal), 1 / SAMPLE_RATE)
    edges = 62.5 * 2.0 ** np.arange(8)
    bands = [power[(hertz >= low) & (hertz < 2 * low)].sum() for low in edges[:-1]]
    return np.asarray(10 * np.log10(bands))


# --- the plan ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "source", "target", "supplemental", "tests"),
    [(1.0, 990, 10, 100, 50), (0.05, 50, 3, 5, 5), (0.2, 198, 3, 20, 10), (0.001, 1, 3, 2, 5)],
)
def test_counts_follow_dcase_2025_times_scale_down_to_the_floors(
    scale: float, source: int, target: int, supplemental: int, tests: int
) -> None:
    clips = ToyPlan(("fan",), scale=scale).clips()
    assert count(clips, split="train", domain="source") == source
    assert count(clips, split="train", domain="target") == target
    assert count(clips, split="supplemental") == supplemental
    for domain in ("source", "target"):
        for label in ("normal", "anomaly"):
            assert count(clips, split="test", domain=domain, label=label) == tests


def test_training_and_supplemental_clips_are_normal_and_both_kinds_of_supplement_are_there() -> None:
    assert {clip.split for clip in ANOMALIES} == {"test"}
    assert all((clip.fault is not None) == (clip.label == "anomaly") for clip in CLIPS)
    assert {clip.supp_type for clip in CLIPS if clip.split == "supplemental"} == {"noise", "machine"}
    assert all(clip.supp_type is None for clip in CLIPS if clip.split != "supplemental")


def test_domains_share_no_noise_and_no_microphone_and_differ_in_snr_speed_and_load() -> None:
    source, target = CONDITIONS["source"], CONDITIONS["target"]
    assert not set(source.noise_ids) & set(target.noise_ids)
    assert not set(source.mic_position_ids) & set(target.mic_position_ids)
    assert set(source.speed_levels) != set(target.speed_levels)
    assert set(source.load_levels) != set(target.load_levels)
    for domain, conditions in CONDITIONS.items():
        clips = [clip for clip in CLIPS if clip.domain == domain]
        assert {clip.noise_id for clip in clips} == set(conditions.noise_ids)
        assert {clip.mic_position_id for clip in clips} == set(conditions.mic_position_ids)
        low, high = conditions.snr_db
        levels = [clip.snr_db for clip in clips]
        assert low <= min(levels) < low + 1
        assert high - 1 < max(levels) <= high


def test_three_target_normals_meet_every_noise_and_microphone_of_the_target() -> None:
    for machine_type in MACHINE_TYPES:
        clips = [c for c in CLIPS if c.machine_type == machine_type and c.domain == "target" and c.split == "train"]
        assert len(clips) == 3
        assert {clip.noise_id for clip in clips} == set(CONDITIONS["target"].noise_ids)
        assert {clip.mic_position_id for clip in clips} == set(CONDITIONS["target"].mic_position_ids)


def test_every_condition_class_has_at_least_five_source_normals_at_the_small_scale() -> None:
    clips = [c for c in CLIPS if c.machine_type == "pump" and c.domain == "source" and c.split == "train"]
    for column in ("speed_level", "load_level", "mic_position_id", "noise_id"):
        values = [getattr(clip, column) for clip in clips]
        assert len(set(values)) >= 2
        assert min(values.count(value) for value in set(values)) >= 5


def test_faults_vary_in_type_and_severity_in_every_domain_of_every_machine() -> None:
    for machine_type in MACHINE_TYPES:
        for domain in ("source", "target"):
            faults = [c.fault for c in ANOMALIES if (c.machine_type, c.domain) == (machine_type, domain)]
            assert {fault.anomaly_type for fault in faults if fault} == set(ANOMALY_TYPES)
            # One severity out of each fifth of the range.
            assert sorted(int(fault.severity * 5) for fault in faults if fault) == [0, 1, 2, 3, 4]


def test_a_clip_does_not_depend_on_what_else_is_asked_for() -> None:
    alone = ToyPlan(("valve",), sections=("07",), scale=0.05, seed=3).clips()
    among = {clip.clip_id: clip for clip in ToyPlan(("gearbox", "valve"), ("00", "07"), 0.2, seed=3).clips()}
    assert all(among[clip.clip_id] == clip for clip in alone)


def test_clip_ids_are_unique_and_times_stand_fast() -> None:
    clips = ToyPlan(sections=section_ids(2)).clips()
    assert len({clip.clip_id for clip in clips}) == len(clips)
    assert clips[0].clip_id == "fan_00_source_train_normal_0001"
    assert clips[0].recorded_at.isoformat() == "2025-01-06T08:00:00+00:00"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"machine_types": ()}, "machine type"),
        ({"machine_types": ("fan", "toaster")}, "'toaster'"),
        ({"machine_types": ("fan", "fan")}, "twice"),
        ({"sections": ()}, "section"),
        ({"sections": ("../x",)}, r"'\.\./x'"),
        ({"sections": ("A",)}, "'A'"),
        ({"scale": 0.0}, "scale 0.0"),
        ({"scale": math.nan}, "scale nan"),
        ({"scale": 11.0}, "scale 11.0"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_by_name(options: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        ToyPlan(**options)  # type: ignore[arg-type]


def test_a_number_of_sections_out_of_range_is_refused() -> None:
    with pytest.raises(UsageError, match="0 sections"):
        section_ids(0)


# --- the sounds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine_type", MACHINE_TYPES)
def test_a_clip_is_ten_seconds_of_16_bit_and_renders_the_same_in_any_order(machine_type: str) -> None:
    first, second = pick(machine_type=machine_type), pick(machine_type=machine_type, number=2)
    forth = [render_clip(clip) for clip in (first, second)]
    back = [render_clip(clip) for clip in (second, first)]
    assert forth[0].dtype == np.int16
    assert forth[0].shape == (10 * 16_000,) == (N_SAMPLES,)
    np.testing.assert_array_equal(forth[0], back[1])
    np.testing.assert_array_equal(forth[1], back[0])
    assert not np.array_equal(forth[0], forth[1])


def test_another_seed_and_another_section_sound_different() -> None:
    clip = pick(supp_type="machine")
    base = render_clip(clip)
    for other in (replace(clip, seed=1), replace(clip, section_id="01")):
        # Another individual, not only another take: the octaves' balance moves.
        gaps = octave_db(render_clip(other)) - octave_db(base)
        assert np.ptp(gaps) > 1.0


@pytest.mark.parametrize("noise_id", NOISE_IDS)
def test_snr_is_the_ratio_of_the_powers_in_the_recording(noise_id: str) -> None:
    for clip in [clip for clip in CLIPS if clip.noise_id == noise_id and clip.supp_type is None][::60]:
        parts = render_components(clip)
        measured = 10 * math.log10(mean_power(parts.machine) / mean_power(parts.noise))
        assert measured == pytest.approx(clip.snr_db, abs=1e-9)
        # The parts are what is written, so the ratio is that of the file.
        assert np.abs(render_clip(clip) - parts.recording * 32_767).max() <= 0.5


def test_supplemental_clips_hold_the_scene_with_one_part_silent() -> None:
    noise = render_components(pick(supp_type="noise"))
    machine = render_components(pick(supp_type="machine"))
    assert not noise.machine.any()
    assert rms(noise.noise) > 0
    assert not machine.noise.any()
    assert rms(machine.machine) > 0


def test_microphone_positions_are_filters_and_not_gains() -> None:
    names = sorted(MIC_POSITIONS)
    assert all(len(machine_taps(name, "site")) <= MAX_TAPS for name in names)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            ratio = np.abs(machine_response(one, "site")) / np.abs(machine_response(other, "site"))
            low, high = np.percentile(20 * np.log10(ratio[500:75_000]), [5, 95])
            assert high - low > 5.0, (one, other)


def test_a_passing_sound_is_heard_with_the_same_filter_as_the_steady_machine() -> None:
    taps = machine_taps("p4", "site")
    blip = Draws("blip").noise(1_000)
    looped = np.zeros(N_SAMPLES)
    looped[5_000:6_000] = blip
    steady = np.fft.irfft(np.fft.rfft(looped) * machine_response("p4", "site"), N_SAMPLES)
    heard = hear(blip, taps)
    assert heard.shape == (1_000 + len(taps) - 1,)
    np.testing.assert_allclose(steady[5_000 : 5_000 + len(heard)], heard, atol=1e-12)


def test_speed_moves_the_lines_of_a_motor() -> None:
    clip = pick(machine_type="motor", supp_type="machine")
    for level, factor in SPEEDS.items():
        spectrum = np.abs(np.fft.rfft(render_components(replace(clip, speed_level=level)).machine))
        near = np.arange(round(1_200 * factor) - 60, round(1_200 * factor) + 60)  # 0.1 Hz a bin
        line_hz = near[spectrum[near].argmax()] / 10
        assert line_hz == pytest.approx(120 * factor, rel=0.004)


def test_load_makes_every_machine_louder() -> None:
    for machine_type in MACHINE_TYPES:
        clip = pick(machine_type=machine_type, supp_type="machine")
        light, heavy = (rms(render_components(replace(clip, load_level=load)).machine) for load in ("light", "heavy"))
        assert heavy > 1.2 * light


def test_eight_machine_types_are_told_apart_by_spectrum_and_rhythm() -> None:
    portraits = {}
    for machine_type in MACHINE_TYPES:
        clip = replace(pick(machine_type=machine_type, supp_type="machine"), speed_level="fast", load_level="heavy")
        sound = render_components(clip).machine
        power = np.square(sound).reshape(-1, 800).mean(axis=1)  # 50 ms
        rhythm = 10 * np.log10(power)
        octaves = octave_db(sound / rms(sound))
        portraits[machine_type] = np.append(octaves, np.std(rhythm) * 3)
    for one in MACHINE_TYPES:
        for other in MACHINE_TYPES:
            if one < other:
                assert np.abs(portraits[one] - portraits[other]).max() > 4.0, (one, other)


def test_coloured_noises_fall_as_their_names_say() -> None:
    for noise_id, per_octave in (("white", 3.0), ("pink", 0.0), ("brown", -3.0)):
        # An octave is twice as wide as the one below it: white gains 3 dB, pink none, brown loses 3.
        octaves = octave_db(np.fft.irfft(make_noise(noise_id, Draws("test", noise_id)), N_SAMPLES))[1:]
        np.testing.assert_allclose(np.diff(octaves), per_octave, atol=0.8)


def test_hum_lies_on_the_mains_and_impulses_stick_out() -> None:
    hum = np.abs(make_noise("hum", Draws("test"))) ** 2
    on_mains = sum(hum[600 * k - 12 : 600 * k + 13].sum() for k in range(1, 70))
    assert on_mains > 0.95 * hum.sum()
    crests = {}
    for noise_id in NOISE_IDS:
        spectrum = make_noise(noise_id, Draws("test", noise_id))
        crests[noise_id] = np.abs(np.fft.irfft(spectrum, N_SAMPLES)).max() / spectral_rms(spectrum)
    assert max(crests, key=crests.__getitem__) == "impulse"
    assert crests["impulse"] > 10


def test_babble_comes_in_syllables() -> None:
    babble = np.fft.irfft(make_noise("babble", Draws("test")), N_SAMPLES)
    white = np.fft.irfft(make_noise("white", Draws("test")), N_SAMPLES)
    spread = [np.std(10 * np.log10(np.square(noise).reshape(-1, 800).mean(axis=1))) for noise in (babble, white)]
    assert spread[0] > 5 * spread[1]


def test_nothing_clips_even_for_the_loudest_faults() -> None:
    for machine_type in MACHINE_TYPES:
        for anomaly_type in ANOMALY_TYPES:
            clip = pick(machine_type=machine_type, label="anomaly", domain="source")
            regions = ((40_000, 44_000),)
            loudest = replace(clip, load_level="heavy", fault=Fault(anomaly_type, 1.0, regions))
            assert np.abs(render_clip(loudest).astype(int)).max() < 0.96 * 32_767


def test_a_scene_that_would_be_too_loud_is_turned_down_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = pick(machine_type="valve", supp_type=None)
    monkeypatch.setattr("engines.toy.render.SCENE_PEAK", 0.01)
    parts = render_components(clip)
    assert np.abs(parts.recording).max() <= 0.01
    assert 20 * math.log10(rms(parts.machine) / rms(parts.noise)) == pytest.approx(clip.snr_db, abs=1e-9)


# --- the faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", ANOMALIES[::7], ids=lambda clip: clip.clip_id)
def test_regions_are_exactly_where_a_fault_changes_the_recording(clip: ToyClip) -> None:
    faulty, twin = render_components(clip), render_components(clip.without_fault())
    inside = np.zeros(N_SAMPLES, dtype=bool)
    assert clip.fault is not None
    for start, end in clip.fault.regions:
        inside[start:end] = True
        changed = np.flatnonzero(faulty.fault[start:end])
        assert changed[0] == 0
        assert changed[-1] == end - start - 1
        assert len(changed) > 0.99 * (end - start)
    np.testing.assert_array_equal(faulty.recording[~inside], twin.recording[~inside])
    assert not np.array_equal(faulty.recording[inside], twin.recording[inside])
    assert not np.array_equal(render_clip(clip)[inside], render_clip(clip.without_fault())[inside])


def test_regions_in_seconds_lead_back_to_the_samples() -> None:
    for clip in ANOMALIES:
        assert clip.fault is not None
        seconds = [[round(time * SAMPLE_RATE) for time in region] for region in clip.fault.regions_s]
        assert seconds == [list(region) for region in clip.fault.regions]


def test_fault_durations_and_repetitions_keep_their_limits() -> None:
    limits = {"impulse_burst": (0.05, 0.3), "band_tone": (0.5, 2.0), "bearing_rattle": (1.0, 4.0)}
    repetitions = set()
    for clip in ToyPlan(scale=0.5).clips():
        if clip.fault is None:
            continue
        shortest, longest = limits.get(clip.fault.anomaly_type, (0.4, 2.5))
        assert all(shortest <= end - start <= longest for start, end in clip.fault.regions_s)
        assert clip.fault.regions == tuple(sorted(clip.fault.regions))
        assert 0 < clip.fault.regions[0][0] < clip.fault.regions[-1][1] < N_SAMPLES
        repetitions.add((clip.fault.anomaly_type, len(clip.fault.regions)))
    assert repetitions == {("impulse_burst", 2)} | {(anomaly_type, 1) for anomaly_type in ANOMALY_TYPES}


@pytest.mark.parametrize("anomaly_type", ANOMALY_TYPES)
def test_a_severe_fault_changes_the_recording_more_than_a_mild_one(anomaly_type: str) -> None:
    clip = pick(machine_type="pump", label="anomaly")
    changes = [
        rms(render_components(replace(clip, fault=Fault(anomaly_type, severity, ((64_000, 72_000),)))).fault)
        for severity in (0.0, 0.5, 1.0)
    ]
    assert changes[0] < changes[1] < changes[2]
    assert changes[0] > 0


def test_a_dropout_takes_the_machine_away_and_leaves_the_background() -> None:
    clip = pick(machine_type="fan", label="anomaly", domain="target")
    parts = render_components(replace(clip, fault=Fault("dropout", 1.0, ((64_000, 80_000),))))
    core = slice(65_000, 79_000)  # inside of the ramps
    left = parts.machine[core] + parts.fault[core]
    np.testing.assert_allclose(left, from_db(-36.0) * parts.machine[core], atol=1e-12)


# --- frozen for ever --------------------------------------------------------------------------------------------


def linear_checksum(samples: np.ndarray) -> list[int]:
    """Three sums of the samples under fixed random signs.

    Any drift of the sound moves them: one of a single step of 16 bit in every sample moves each by some 400. A hash
    would also fail where another processor's last bit of a sine tips one sample of millions over a rounding edge,
    which is no other sound; that moves a sum by 1.
    """
    words = np.random.PCG64(16).random_raw(samples.size)
    signs = [1 - 2 * ((words >> np.uint64(bit)) & np.uint64(1)).astype(np.int64) for bit in (3, 20, 45)]
    return [int(sign @ samples.astype(np.int64)) for sign in signs]


FROZEN: dict[str, list[int]] = {
    "fan_00_source_train_normal_0001": [-2271, 1064829, -393843],
    "fan_00_source_test_anomaly_0001": [282298, 527390, -219840],
    "fan_00_target_test_anomaly_0001": [-46965, 62675, 282889],
    "pump_00_source_train_normal_0002": [-80922, 186232, 689228],
    "pump_00_source_test_anomaly_0002": [295322, -215878, 269026],
    "pump_00_target_test_anomaly_0002": [-386503, -122355, -316717],
    "valve_00_source_train_normal_0003": [-40081, 40879, -1909],
    "valve_00_source_test_anomaly_0003": [125726, -169718, 51404],
    "valve_00_target_test_anomaly_0003": [-304585, 29005, 108977],
    "slider_00_source_train_normal_0004": [-518575, 69819, -62441],
    "slider_00_source_test_anomaly_0004": [125004, 94686, -252650],
    "slider_00_target_test_anomaly_0004": [-84618, -275220, -104332],
    "bearing_00_source_train_normal_0005": [259499, -295337, -444539],
    "bearing_00_source_test_anomaly_0005": [-377345, 395061, 344601],
    "bearing_00_target_test_anomaly_0005": [-360147, -437319, 718451],
    "motor_00_source_train_normal_0006": [559746, -202148, -279122],
    "motor_00_source_test_anomaly_0001": [1019329, 133567, -856373],
    "motor_00_target_test_anomaly_0001": [-623589, -87285, -253711],
    "compressor_00_source_train_normal_0007": [124046, -18706, -662048],
    "compressor_00_source_test_anomaly_0002": [-42500, -494066, 136414],
    "compressor_00_target_test_anomaly_0002": [484080, -508822, 742368],
    "gearbox_00_source_train_normal_0008": [-685831, 500119, -817833],
    "gearbox_00_source_test_anomaly_0003": [160695, -444753, 652341],
    "gearbox_00_target_test_anomaly_0003": [28206, -28116, -195998],
}


def frozen_clips() -> list[ToyClip]:
    chosen = []
    for index, machine_type in enumerate(MACHINE_TYPES):
        anomalies = [clip for clip in ANOMALIES if clip.machine_type == machine_type]
        source, target = anomalies[:5], anomalies[5:]
        training = pick(machine_type=machine_type, split="train", domain="source", number=index + 1)
        chosen += [training, source[index % 5], target[index % 5]]
    return chosen


def test_frozen_clips_hold_every_machine_noise_and_fault() -> None:
    clips = frozen_clips()
    assert {clip.machine_type for clip in clips} == set(MACHINE_TYPES)
    assert {clip.noise_id for clip in clips} == set(NOISE_IDS)
    assert {clip.mic_position_id for clip in clips} == set(MIC_POSITIONS)
    assert {clip.fault.anomaly_type for clip in clips if clip.fault} == set(ANOMALY_TYPES)
    assert {clip.clip_id for clip in clips} == set(FROZEN)


@pytest.mark.parametrize("clip", frozen_clips(), ids=lambda clip: clip.clip_id)
def test_sounds_are_frozen(clip: ToyClip) -> None:
    np.testing.assert_allclose(linear_checksum(render_clip(clip)), FROZEN[clip.clip_id], rtol=0, atol=16)


def test_draws_are_frozen() -> None:
    draws = Draws("frozen", 1)
    assert draws.uniforms(0.0, 1.0, 3).tolist() == [0.22469270091519877, 0.903464806864177, 0.03329777568424441]
    assert draws.shuffle("abcdef") == ["b", "a", "c", "f", "e", "d"]
    noise = draws.noise(200_000)
    assert noise.mean() == pytest.approx(0.0, abs=0.01)
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    assert np.corrcoef(noise[1:], noise[:-1])[0, 1] == pytest.approx(0.0, abs=0.01)


def test_a_wave_is_read_between_its_points_and_around_its_end() -> None:
    table = np.array([0.0, 1.0, 0.0, -1.0])
    turns = np.array([0.0, 0.125, 0.25, 0.875, 1.0, -0.25])
    np.testing.assert_allclose(periodic(turns, table), [0.0, 0.5, 1.0, -0.5, 0.0, -1.0])
