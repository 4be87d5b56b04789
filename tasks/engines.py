"""Engines and encoders by name, with the weights that are on this machine.

Encoders are kept for the life of the process: loading weights costs more than a clip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from engines.fitting import MIN_RECORDINGS
from schemas.engine_settings import EnsembleSettings, MemoryBankSettings, PatchMemorySettings, PrototypeSettings
from schemas.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from engines.base import Engine
    from engines.encoders.base import Encoder
    from engines.ensemble import Ensemble
    from engines.prototypes import Lessons

ENSEMBLE = "ensemble"
ENSEMBLE_TRUSTED_FROM = 5
"""Normals from which an ensemble's threshold rings about as often as it says, by benchmarks/calibration.md."""

ENCODERS = ("ast", "lite0", "logmel")

ENCODERS_BEST_FIRST = ("lite0", "logmel")
"""Order in which `auto` looks for an encoder whose weights are here.

`ast` is not among them: it is used when asked for, until a benchmark with its published weights shows what a hundred
times the cost of `lite0` buys.
"""


@cache
def load_encoder(name: str) -> Encoder:
    """The encoder `name`, ready to encode.

    Raises
    ------
    UsageError
        ALP knows no such encoder.
    WeightsError
        Its weights are not on this machine.
    """
    if name == "ast":
        from engines.encoders.ast import AstEncoder
        from schemas.settings import Environment
        from tasks.weights import ast_weights

        return AstEncoder(ast_weights(), precision=Environment().ast_precision)
    if name == "lite0":
        from engines.encoders.lite0 import Lite0Encoder
        from tasks.weights import lite0_weights

        return Lite0Encoder(lite0_weights())
    if name == "logmel":
        from engines.encoders.logmel import LogMelEncoder

        return LogMelEncoder()
    raise UsageError(f"there is no encoder {name!r}; choose one of {', '.join(ENCODERS)} or auto")


def choose_encoder(wanted: str, *, engine: str = "a") -> str:
    """`wanted` itself, or for `auto` the best encoder for that engine whose weights are here.

    Engine A takes the first of `ENCODERS_BEST_FIRST`. Engine B takes `logmel`: better with every setting tried, at a
    tenth of the time (benchmarks/engine-b.md). Rivals and members share one encoder: B's, where B is among them.
    """
    if wanted != "auto":
        return load_encoder(wanted).name
    if engine != "a":
        return load_encoder("logmel").name
    for name in ENCODERS_BEST_FIRST:
        try:
            return load_encoder(name).name
        except WeightsError:
            continue
    raise WeightsError("no encoder's weights are on this machine")


@dataclass(frozen=True)
class Recipe:
    """All that decides how an asset's engine is made, beside the recordings."""

    engine: str
    encoder: str
    seed: int
    members: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def digest(self) -> str:
        """Sixteen hex digits for a model's version: names, settings and the encoder's identity."""
        names = self.members or (self.engine,)
        parts = [f"{name}:{_settings(name, self).digest()}" for name in (*names, self.engine) if name != ENSEMBLE]
        if self.engine == ENSEMBLE:
            parts.append(f"{ENSEMBLE}:{EnsembleSettings().digest()}")
        if set(names) - {"c"}:
            parts.append(load_encoder(self.encoder).identity.digest)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _settings(name: str, recipe: Recipe) -> PatchMemorySettings | MemoryBankSettings | PrototypeSettings:
    match name:
        case "a":
            return PatchMemorySettings(seed=recipe.seed)
        case "b":
            return MemoryBankSettings(seed=recipe.seed)
        case "c":
            return PrototypeSettings(seed=recipe.seed, columns=recipe.columns)
    raise UsageError(f"there is no engine {name!r}; choose a, b, c, ensemble or auto")


def new_engine(recipe: Recipe) -> Engine:
    """An engine to be fitted."""
    if recipe.engine != ENSEMBLE:
        return _new_member(recipe.engine, recipe)
    from engines.ensemble import Ensemble
    from engines.prototypes import Lessons

    # The ensemble fits its members anew for every normal that it leaves out; what C learns of the source stays.
    lessons = Lessons()
    return Ensemble(recipe.members, lambda name, least: _new_member(name, recipe, least=least, lessons=lessons))


def _new_member(name: str, recipe: Recipe, *, least: int = MIN_RECORDINGS, lessons: Lessons | None = None) -> Engine:
    from engines.memory_banks import MemoryBanks
    from engines.patch_memory import PatchMemory
    from engines.prototypes import Prototypes

    settings = _settings(name, recipe)
    if isinstance(settings, PatchMemorySettings):
        return PatchMemory(load_encoder(recipe.encoder), settings, least=least)
    if isinstance(settings, MemoryBankSettings):
        return MemoryBanks(load_encoder(recipe.encoder), settings, least=least)
    return Prototypes(settings, least=least, lessons=lessons)


def caveats_of(fitted: Engine) -> tuple[str, ...]:
    """What is to be known of an engine that was just fitted: in what it is not to be trusted, or not repeatable.

    Engine C alone is trained, within a time and where there is one on a GPU; an ensemble is asked for its members too.
    """
    from engines.ensemble import Ensemble
    from engines.prototypes import Prototypes

    if isinstance(fitted, Ensemble):
        of_members = [caveat for member in fitted.members.values() for caveat in caveats_of(member)]
        return (*_few_normals(fitted), *of_members)
    if not isinstance(fitted, Prototypes):
        return ()
    import torch

    found = []
    if fitted.hit_budget:
        trained, planned, limit = fitted.episodes_trained, fitted.settings.episodes, fitted.settings.time_budget_s
        found.append(
            f"engine C's training stopped at its limit of {limit:g} s, after {trained} of {planned} episodes;"
            " fitted again, it may score otherwise"
        )
    if fitted.settings.device != "cpu" and torch.cuda.is_available():
        found.append("engine C was trained on a GPU; fitted again, or elsewhere, it may score slightly otherwise")
    return tuple(found)


def _few_normals(fitted: Ensemble) -> Iterator[str]:
    """Each normal is left out of members that learn from the others: of two others, too little is left to go by."""
    if (n := len(fitted.normal_scores())) < ENSEMBLE_TRUSTED_FROM:
        yield (
            f"an ensemble of engines that learnt from {n} normals rings several times as often as its threshold says;"
            f" send {ENSEMBLE_TRUSTED_FROM} or more, or let ALP choose one engine"
        )


def load_engine(folder: Path, encoder: str) -> Engine:
    """A fitted engine from its folder, whichever it is."""
    from engines.ensemble import Ensemble
    from engines.memory_banks import MemoryBanks
    from engines.patch_memory import PatchMemory
    from engines.prototypes import Prototypes
    from engines.saving import EngineName, read_card

    name = read_card(folder, EngineName, engine="any").engine
    match name:
        case "a":
            return PatchMemory.load(folder, load_encoder(encoder))
        case "b":
            return MemoryBanks.load(folder, load_encoder(encoder))
        case "c":
            return Prototypes.load(folder)
        case "ensemble":
            return Ensemble.load(folder, lambda home: load_engine(home, encoder), _refuse_to_make)
    raise UsageError(f"{folder} holds engine {name!r}, which this version does not know")


def _refuse_to_make(name: str, least: int) -> Engine:
    raise UsageError(f"a loaded ensemble scores; to fit engine {name!r} again ({least} normals), make a new one")
