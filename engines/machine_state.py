"""Is the machine running? A detector of clips in which only the background is heard.

It is learnt from noise-only recordings (the place without the machine) and the asset's normals, and from nothing
else. A clip is **off** when all of this holds:

- it is nearer to a noise-only clip than to any normal,
- it does not stand out of the background: its excess over the loudest noise-only recording of each band is within
  a margin, and
- it is no quieter than the place is without the machine: its deficit under the quietest noise-only recording of each
  band is within a floor. A muted microphone hears neither machine nor place.

So a fault is not mistaken for silence: it changes the machine's sound, and a machine, however faulty, still adds
energy to the background. What is in doubt is not off: it is scored like any other clip.

Conventions: a clip is described by two levels of each mel band over its frames, dB of full scale, float64
(2 × bands,): that of the mean power, and the 95th percentile, which a machine that comes and goes raises. A distance
is the root mean square of differences, dB. An excess is the mean of the highest twentieth of differences, dB: a
machine need not be heard in many bands. Bands that a clip does not hold are left out of its comparisons.

The **margin** is the largest excess of a noise-only recording over the others, each left out in turn, and at least
`LEAST_MARGIN_DB`, which is all that one recording alone allows; but at most half of the excess of the normal that
stands out least, so that a machine may lose half the decibels it stands out by and is still not off. What then fails
its own recordings is refused with a reason (`Indistinct`): a normal that would be called off, or noise that mostly
would not.

The **floor** is the largest deficit of a noise-only recording under the others, each left out in turn, and at least
`LEAST_MARGIN_DB`; a deficit is the mean of the highest twentieth of differences, as an excess is. What is *too quiet*
by it is neither on nor off.

No published method is followed. A margin that is the largest of n exchangeable excesses is exceeded by a new one with
probability at most 1 / (n + 1) (as a conformal p-value, see `engines.calibration`): about so many off clips are
scored although the machine is off.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from engines.base import ClipSet, Progress
from engines.features import Spectrogram, log_mel
from engines.fitting import naming, require_rate
from schemas.engine_settings import LogMelSettings
from schemas.errors import InputError

FloatArray = NDArray[np.float64]
Sound = Literal["running", "off", "too quiet"]
"""What a recording holds; `running` is all that is not surely the background."""

LOUD_PERCENTILE = 95.0
"""Of a band's frames: what a machine that runs a twentieth of the time still raises."""
TOP_SHARE = 0.05
"""Share of the levels, the highest differences, that an excess is the mean of."""
LEAST_MARGIN_DB = 3.0
"""What two recordings of one background may differ by: the margin where one recording shows no spread."""
KEPT_EXCESS = 0.5
"""Share of the least normal's excess that the margin may be."""
LEAST_RECOGNIZED = 0.5
"""Share of the noise-only recordings that the others must recognize as off."""
_DECIMALS = 2
"""Of levels in dB: more says nothing, and a fitted background reads as it was fitted."""


class Indistinct(BaseModel):
    """Why background and machine cannot be told apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str


class Background(BaseModel):
    """What is heard of a place without its machine, and of the machine; `background.json`.

    Levels are dB, one row a clip: the levels of mean power of all bands, then their 95th percentiles.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rate: int = Field(gt=0)
    bandwidth_hz: FiniteFloat = Field(gt=0, description="Band that every clip learnt from holds.")
    front_end: LogMelSettings
    noise: tuple[tuple[FiniteFloat, ...], ...] = Field(min_length=1, description="Levels of the noise-only clips.")
    normals: tuple[tuple[FiniteFloat, ...], ...] = Field(min_length=1, description="Levels of the normal clips.")
    margin_db: FiniteFloat = Field(description="Excess over the background up to which a clip may be off.")
    floor_db: FiniteFloat = Field(description="Deficit under the background up to which a clip may be off.")
    n_noise: int = Field(description="Noise-only recordings.")
    n_normals: int = Field(description="Normal recordings.")
    recognized: FiniteFloat | None = Field(
        description="Share of the noise-only recordings that the others call off; None where there is one."
    )

    @classmethod
    def fit(
        cls,
        noise: ClipSet,
        normals: ClipSet,
        *,
        front_end: LogMelSettings | None = None,
        progress: Progress | None = None,
    ) -> Background | Indistinct:
        """Learn the background from noise-only recordings, or say why it cannot be told from the machine.

        Parameters
        ----------
        noise : recordings of the place without the machine; one or more.
        normals : the machine's own normal recordings; one or more.

        Raises
        ------
        InputError
            There is no noise or no normal, rates differ, or a clip is too short to be heard.
        """
        _require_both(noise, normals)
        front = front_end or LogMelSettings()
        band = min(clip.bandwidth_hz for clip in (*noise.clips, *normals.clips))
        quiet = _levels_of(noise, front, band, progress)[0]
        running = _levels_of(normals, front, band, progress)[0]
        quiet_ids, running_ids = _recording_ids(noise), _recording_ids(normals)
        own = _leave_one_out(quiet, quiet_ids, running)
        least = float(_excess(running, quiet.max(axis=0)).min())
        loudest = max((excess for excess, _ in own), default=0.0)
        margin = min(max(LEAST_MARGIN_DB, loudest), KEPT_EXCESS * least)
        recognized = float(np.mean([excess <= margin and near for excess, near in own])) if own else None
        floor = max(LEAST_MARGIN_DB, *_leave_one_out_deficits(quiet, quiet_ids), 0.0)
        if reason := _find_fault(quiet, running, running_ids, margin, recognized):
            return Indistinct(reason=reason)
        return cls(
            sample_rate=noise.clips[0].sample_rate,
            bandwidth_hz=band,
            front_end=front,
            noise=tuple(map(tuple, quiet.tolist())),
            normals=tuple(map(tuple, running.tolist())),
            margin_db=margin,
            floor_db=floor,
            n_noise=len(noise.recordings),
            n_normals=len(normals.recordings),
            recognized=recognized,
        )

    def is_off(self, clips: ClipSet, *, progress: Progress | None = None) -> NDArray[np.bool_]:
        """Which recordings hold nothing but background, bool (n_recordings,), in `clips.recordings` order.

        As `tell`, and raises the same.
        """
        return np.array([sound == "off" for sound in self.tell(clips, progress=progress)], dtype=np.bool_)

    def tell(self, clips: ClipSet, *, progress: Progress | None = None) -> list[Sound]:
        """What each recording holds, in `clips.recordings` order.

        A recording is off when all of its clips are: a machine that starts in the last of them was running. It is too
        quiet when nothing in it is running and a clip is quieter than the background.

        Raises
        ------
        InputError
            A clip is of another sample rate, or too short to be heard.
        """
        require_rate(clips, self.sample_rate)
        levels, held = _levels_of(clips, self.front_end, self.bandwidth_hz, progress)
        quiet, running = np.array(self.noise), np.array(self.normals)
        running_somewhere, too_quiet = set(), set()
        for clip, level, bands in zip(clips.clips, levels, held, strict=True):
            if not _is_background(level[bands], quiet[:, bands], running[:, bands], self.margin_db):
                running_somewhere.add(clip.recording_id)
            elif _deficit(level[bands], quiet[:, bands]) > self.floor_db:
                too_quiet.add(clip.recording_id)
        return [
            "running" if name in running_somewhere else "too quiet" if name in too_quiet else "off"
            for name in clips.recordings
        ]


def _require_both(noise: ClipSet, normals: ClipSet) -> None:
    for clips, what in ((noise, "noise-only"), (normals, "normal")):
        if not len(clips):
            raise InputError(f"no {what} recording is given; a background is learnt from noise-only and normal ones")
    require_rate(normals, noise.clips[0].sample_rate)


def _recording_ids(clips: ClipSet) -> NDArray[np.str_]:
    return np.array([clip.recording_id for clip in clips.clips])


def _levels_of(
    clips: ClipSet, front_end: LogMelSettings, band_hz: float, progress: Progress | None
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Levels of each clip, float64 (n, 2 × bands), and which of them it holds, bool of the same shape."""
    levels, held = [], []
    for clip, waveform in clips:
        with naming(clip):
            heard = log_mel(
                waveform,
                front_end,
                sample_rate=clip.sample_rate,
                bandwidth_hz=band_hz,
                held_hz=min(clip.bandwidth_hz, band_hz),
            )
        levels.append(_levels(heard))
        held.append(np.tile(heard.band_mask, 2))
        if progress is not None:
            progress(1)
    return np.array(levels), np.array(held)


def _levels(heard: Spectrogram) -> FloatArray:
    """Two levels of each band, float64 (2 × bands,) dB: of the mean power, then the 95th percentile."""
    values = heard.values.astype(np.float64)
    mean = 10 * np.log10(np.power(10, values / 10).mean(axis=1))
    loud = np.percentile(values, LOUD_PERCENTILE, axis=1)
    return np.asarray(np.round(np.concatenate([mean, loud]), _DECIMALS))


def _is_background(level: FloatArray, quiet: FloatArray, running: FloatArray, margin_db: float) -> bool:
    """Whether one clip's levels (levels,) are the background's: nearer to it, and within the margin above it."""
    if not level.size or _excess(level[None], quiet.max(axis=0))[0] > margin_db:
        return False
    return _is_nearer(level, quiet, running)


def _is_nearer(level: FloatArray, quiet: FloatArray, running: FloatArray) -> bool:
    return float(_distances(level, quiet).min()) < float(_distances(level, running).min())


def _distances(level: FloatArray, others: FloatArray) -> FloatArray:
    """Root mean square difference from each row of `others` (n, levels): float64 (n,) dB."""
    return np.asarray(np.sqrt(np.square(others - level).mean(axis=1)))


def _excess(levels: FloatArray, over: FloatArray) -> FloatArray:
    """How far each row (n, levels) stands out of `over` (levels,): float64 (n,) dB, below 0 where it does not."""
    count = max(1, round(TOP_SHARE * levels.shape[1]))
    return np.asarray(np.sort(levels - over, axis=1)[:, -count:].mean(axis=1))


def _deficit(level: FloatArray, quiet: FloatArray) -> float:
    """How far one clip's levels (levels,) lie under the quietest of `quiet` (n, levels), dB."""
    return float(_excess(quiet.min(axis=0)[None], level)[0])


def _leave_one_out_deficits(quiet: FloatArray, ids: NDArray[np.str_]) -> list[float]:
    """Of each noise-only clip under those of the other recordings; nothing where there is only one recording."""
    names = dict.fromkeys(ids.tolist())
    return [_deficit(level, quiet[ids != name]) for name in names if len(names) > 1 for level in quiet[ids == name]]


def _leave_one_out(quiet: FloatArray, ids: NDArray[np.str_], running: FloatArray) -> list[tuple[float, bool]]:
    """Of each noise-only recording against the others: its largest excess, and whether it is nearer to them than to
    the machine. Nothing where there is only one."""
    found = []
    for name in dict.fromkeys(ids.tolist()):
        own, others = quiet[ids == name], quiet[ids != name]
        if len(others):
            near = all(_is_nearer(level, others, running) for level in own)
            found.append((float(_excess(own, others.max(axis=0)).max()), near))
    return found


def _find_fault(
    quiet: FloatArray, running: FloatArray, running_ids: NDArray[np.str_], margin_db: float, recognized: float | None
) -> str | None:
    """What the recordings themselves say against telling the two apart, if anything."""
    if margin_db <= 0:
        return (
            "a normal recording does not stand out of the noise-only recordings in any band; "
            "record the place with the machine off, and no louder than when it runs"
        )
    names = dict.fromkeys(running_ids.tolist())
    called_off = sum(_is_called_off(name, quiet, running, running_ids, margin_db) for name in names)
    if called_off:
        return (
            f"{called_off} of {len(names)} normal recordings would be called off by the others; "
            "record more normals of every way in which the machine runs"
        )
    if recognized is not None and recognized < LEAST_RECOGNIZED:
        return (
            f"only {recognized:.0%} of the noise-only recordings are recognized by the others; "
            "record the place with the machine off more often, in all that is heard there"
        )
    return None


def _is_called_off(
    name: str, quiet: FloatArray, running: FloatArray, running_ids: NDArray[np.str_], margin_db: float
) -> bool:
    """Whether a normal recording would be off, had it not been learnt. With one normal there is no other to be near."""
    own, others = running[running_ids == name], running[running_ids != name]
    if not len(others):
        return bool((_excess(own, quiet.max(axis=0)) <= margin_db).all())
    return all(_is_background(level, quiet, others, margin_db) for level in own)
