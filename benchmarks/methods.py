"""What is compared, and how one method is fitted and scored on one draw.

A *row* is one line of the tables: `a/lite0`, `b/lite0/no mixup`, `log-mel kNN`. Most methods give one row; the
autoencoder gives two.

The draws of an asset share work, which changes no score: an encoder's patches of a clip that it has seen standardized
alike, what engine C learns from the source, features of the peers. Costs are measured apart (`measure`), where each
method stands alone in a fresh process and shares nothing. Memory is that process's highest resident size, interpreter,
libraries and the set's clips included; `floor` is the same before the method began.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import Autoencoder, BankEmbedding, Features, LogMelNeighbour, PooledDetector, hear
from benchmarks.sets import BenchSet, Draw
from engines.base import ClipSet, Engine
from engines.encoders.base import Encoder, EncoderIdentity, PatchLayer
from engines.features import Spectrogram
from engines.fitting import MIN_RECORDINGS
from schemas.engine_settings import MemoryBankSettings, PrototypeSettings
from schemas.errors import InputError, WeightsError

ENCODERS = ("ast", "lite0", "logmel")
"""Every encoder there is; the order of the tables."""

NO_SOURCE = "not eligible: no source"
NO_COLUMNS = "not eligible: no condition column to learn from"
NO_WEIGHTS = "not run: weights absent"
NO_PYOD = "not run: pyod is not installed"

ABLATIONS: Mapping[str, dict[str, Any]] = {"no mixup": {"mixup": False}, "not shrunk": {"shrinkage": 0.0}}
"""Engine B with one setting changed."""


class Outcome(TypedDict, total=False):
    """What one row gave on one draw; `normal_scores` from engines alone, `chose` from `routed`, `why` where not run."""

    scores: list[float]
    normal_scores: list[float]
    chose: str
    why: str


class Remembering(Encoder):
    """An encoder that keeps what it made of a clip, for the draws that hear the clip alike again.

    Spectrograms are known by where the samples lie in memory, which is theirs as long as the set is; patches by the
    standardized spectrogram. Only engine B meets a spectrogram again: A standardizes by the support of each draw.
    """

    def __init__(self, encoder: Encoder, *, patches: bool) -> None:
        self._encoder, self._keeps_patches = encoder, patches
        self._heard: dict[tuple[object, ...], Spectrogram] = {}
        self._layers: dict[bytes, list[PatchLayer]] = {}
        self.front_end = encoder.front_end

    @property
    def identity(self) -> EncoderIdentity:
        return self._encoder.identity

    def spectrogram(
        self, waveform: NDArray[np.float32], *, sample_rate: int, bandwidth_hz: float, held_hz: float | None = None
    ) -> Spectrogram:
        key = (waveform.ctypes.data, waveform.size, sample_rate, bandwidth_hz, held_hz)
        if key not in self._heard:
            self._heard[key] = self._encoder.spectrogram(
                waveform, sample_rate=sample_rate, bandwidth_hz=bandwidth_hz, held_hz=held_hz
            )
        return self._heard[key]

    def encode_one(self, spectrogram: Spectrogram) -> list[PatchLayer]:
        if not self._keeps_patches:
            return self._encoder.encode_one(spectrogram)
        key = hashlib.blake2b(spectrogram.values.tobytes() + spectrogram.band_mask.tobytes(), digest_size=16).digest()
        if key not in self._layers:
            self._layers[key] = self._encoder.encode_one(spectrogram)
        return self._layers[key]


@dataclass
class Shelf:
    """One asset, and what its methods keep between draws. `columns` are the conditions that the router found true."""

    bench: BenchSet
    columns: tuple[str, ...] = ()
    _kept: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def keep(self, *name: str, make: Callable[[], Any]) -> Any:
        """The thing of that name, made when it is first asked for."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def encoder(self, name: str, *, patches: bool) -> Remembering:
        """The encoder with its memory of this asset."""
        from tasks.engines import load_encoder

        return self.keep("encoder", name, str(patches), make=lambda: Remembering(load_encoder(name), patches=patches))


@dataclass(frozen=True)
class Method:
    """One thing to fit. `make` gives it anew for every draw; `why_not` says what an asset lacks for it."""

    rows: tuple[str, ...]
    make: Callable[[Shelf], Any]
    why_not: Callable[[Shelf], str] = lambda shelf: ""


def available_encoders() -> dict[str, str]:
    """Why an encoder is not run, by its name; empty where its weights are here."""
    from tasks.engines import load_encoder

    found = {}
    for name in ENCODERS:
        try:
            load_encoder(name)
            found[name] = ""
        except WeightsError:
            found[name] = NO_WEIGHTS
    return found


def methods(encoders: Mapping[str, str], *, auto: str) -> list[Method]:
    """Every method, in the order of the tables. Ablations are of the encoder that `auto` takes."""
    return [
        *(_with_weights(Method((f"a/{name}",), partial(_make_a, name)), why) for name, why in encoders.items()),
        *(
            _with_weights(Method((f"b/{name}",), partial(_make_b, name, {}), _lacks_source), why)
            for name, why in encoders.items()
        ),
        Method(("c",), _make_c, _lacks_conditions),
        *(
            Method((f"b/{auto}/{title}",), partial(_make_b, auto, change), _lacks_source)
            for title, change in ABLATIONS.items()
        ),
        Method(("log-mel kNN",), lambda shelf: LogMelNeighbour(_features(shelf))),
        *(
            _with_weights(Method((f"PyOD {title}/{name}",), partial(_make_pyod, kind, name), _lacks_pyod), why)
            for name, why in encoders.items()
            for title, kind in (("kNN", "knn"), ("IForest", "iforest"))
        ),
        Method(("autoencoder MSE", "autoencoder Mahalanobis"), _make_autoencoder),
    ]


def _with_weights(method: Method, why: str) -> Method:
    return Method(method.rows, method.make, lambda shelf: why) if why else method


def _lacks_source(shelf: Shelf) -> str:
    return "" if shelf.bench.source is not None else NO_SOURCE


def _lacks_pyod(shelf: Shelf) -> str:
    from importlib.util import find_spec

    return _lacks_source(shelf) or ("" if find_spec("pyod") else NO_PYOD)


def _lacks_conditions(shelf: Shelf) -> str:
    from engines.prototypes import plan_tasks

    source = shelf.bench.source
    if source is None:
        return NO_SOURCE
    try:
        plan_tasks(source, PrototypeSettings(columns=shelf.columns))
    except InputError:
        return NO_COLUMNS
    return ""


def _make_a(encoder: str, shelf: Shelf) -> Any:
    from engines.patch_memory import PatchMemory

    return PatchMemory(shelf.encoder(encoder, patches=False), workers=1)


def _make_b(encoder: str, change: dict[str, Any], shelf: Shelf) -> Any:
    from engines.memory_banks import MemoryBanks

    return MemoryBanks(shelf.encoder(encoder, patches=True), MemoryBankSettings(**change), workers=1)


def _make_c(shelf: Shelf) -> Any:
    from engines.prototypes import Lessons, Prototypes

    settings = PrototypeSettings(columns=shelf.columns)
    return Prototypes(settings, workers=1, lessons=shelf.keep("lessons", make=Lessons))


def new_engine(shelf: Shelf, encoder: str, name: str, least: int = MIN_RECORDINGS) -> Engine:
    """An engine by its letter, as the product makes it: its encoder keeps nothing of a clip."""
    from engines.memory_banks import MemoryBanks
    from engines.patch_memory import PatchMemory
    from engines.prototypes import Lessons, Prototypes
    from tasks.engines import load_encoder

    if name == "a":
        return PatchMemory(load_encoder(encoder), workers=1, least=least)
    if name == "b":
        return MemoryBanks(load_encoder(encoder), workers=1, least=least)
    lessons = shelf.keep("lessons", make=Lessons)
    return Prototypes(PrototypeSettings(columns=shelf.columns), workers=1, least=least, lessons=lessons)


def _make_pyod(kind: Any, encoder: str, shelf: Shelf) -> Any:
    embedding = shelf.keep("embedding", encoder, make=lambda: BankEmbedding(shelf.encoder(encoder, patches=True)))
    return PooledDetector(kind, embedding)


def _make_autoencoder(shelf: Shelf) -> Autoencoder:
    return Autoencoder(_features(shelf), shelf.keep("pretrained", make=dict))


def _features(shelf: Shelf) -> Features:
    found: Features = shelf.keep("features", make=lambda: Features(hear))
    return found


def run_method(method: Method, shelf: Shelf, draw: Draw) -> dict[str, Outcome]:
    """Fit and score one method on one draw; an outcome a row."""
    why = method.why_not(shelf)
    if why:
        return {row: {"why": why} for row in method.rows}
    bench = shelf.bench
    detector = method.make(shelf).fit(bench.clip_set(draw.support), bench.source)
    scores = score_rows(method, detector, bench.clip_set(draw.tests))
    known = {"normal_scores": detector.normal_scores().tolist()} if hasattr(detector, "normal_scores") else {}
    return {row: Outcome(scores=values.tolist(), **known) for row, values in scores.items()}


def score_rows(method: Method, detector: Any, tests: ClipSet) -> dict[str, NDArray[np.float64]]:
    """Scores of the tests by row, float64 (n,) each."""
    if len(method.rows) == 1:
        return {method.rows[0]: detector.decision_function(tests)}
    return dict(zip(method.rows, detector.scores(tests).values(), strict=True))


@dataclass(frozen=True)
class Cost:
    """Wall-clock seconds of one draw on one core; highest resident size of the process, MB of 1e6 bytes, if known."""

    shots: int
    tests: int
    fit_s: float
    score_s: float
    peak_mb: float | None


def measure(method: Method, bench: BenchSet, columns: tuple[str, ...], draw: Draw) -> Cost:
    """What one method costs on one draw, nothing shared with any other."""
    shelf = Shelf(bench, columns)
    reset_peak()
    start = time.perf_counter()
    detector = method.make(shelf).fit(bench.clip_set(draw.support), bench.source)
    fitted = time.perf_counter()
    score_rows(method, detector, bench.clip_set(draw.tests))
    return Cost(draw.shots, len(draw.tests), fitted - start, time.perf_counter() - fitted, peak_mb())


_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> bool:
    """Let the kernel forget the process's highest resident size; False where it cannot (it is then since the start)."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak_mb() -> float | None:
    """Highest resident size since `reset_peak`, MB of 1e6 bytes; None where the kernel does not tell (VmHWM, Linux)."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), None)
