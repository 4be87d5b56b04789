"""What the gate says of a machine or of a package as a whole, beside how many normals are missing: notes, which hold
nothing back.

Each stands once a machine or once a package, however many recordings it is about, and changes no recording's verdict.
What is asked for comes from the form (`schemas.forms`), so that the gate names what the form asked.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from schemas.machine_types import MachineTypes, fold
from schemas.problems import Problem
from schemas.rules import report
from tasks.clips import AssetKey, Clip

SHORT_OF = 0.95
"""Share of the form's length from which on a recording is as long as was asked: people stop a recorder by hand."""


def advise(clips: Iterable[Clip], types: MachineTypes) -> list[Problem]:
    """A note a machine whose good recordings are slower or shorter than its form asks for."""
    groups: defaultdict[AssetKey, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.asset[0] in types and clip.asset[1] and clip.measures is not None and clip.is_good:
            groups[clip.asset].append(clip)
    return [problem for asset, own in groups.items() for problem in _against_the_form(asset, own, types)]


def _against_the_form(asset: AssetKey, clips: Sequence[Clip], types: MachineTypes) -> list[Problem]:
    form = types[asset[0]].recording_form
    rates = [clip.measures.sample_rate for clip in clips if clip.measures]
    lengths = [clip.measures.duration_s for clip in clips if clip.measures]
    least = form.sample_rate[0]
    slow = [rate for rate in rates if rate < least]
    short = [length for length in lengths if length < SHORT_OF * form.clip_s]
    who = {"asset": " ".join(asset), "total": len(clips)}
    notes = []
    if slow:
        notes.append(report("asset.low_rate", measured=min(slow), asked=least, count=len(slow), **who))
    if short:
        notes.append(report("asset.short_clips", measured=min(short), count=len(short), **who))
    return notes


def ask(
    assets: Iterable[AssetKey], known: Iterable[AssetKey], types: MachineTypes, *, has_noise: bool
) -> list[Problem]:
    """Notes on machines whose ids may mean one machine, and on recordings of the place that did not come.

    assets: those of the package that bring normals; known: those that the customer has from other packages.
    """
    assets = list(assets)
    notes = [
        report("asset.alike", asset=" ".join(asset), others=", ".join(others))
        for asset, others in _alike(assets, known).items()
    ]
    if assets and not has_noise:
        spans = [types[kind].recording_form.noise_s for kind, _ in assets if kind in types]
        low, high = min(low for low, _ in spans), max(high for _, high in spans)
        notes.append(report("ask.noise", low=f"{low:g}", high=f"{high:g}"))
    return notes


def _alike(assets: Iterable[AssetKey], known: Iterable[AssetKey]) -> Mapping[AssetKey, list[str]]:
    """Machines of the package, each with the other ids of its type that differ from its own in spelling alone; each
    group once."""
    assets = list(dict.fromkeys(assets))
    groups: defaultdict[AssetKey, list[AssetKey]] = defaultdict(list)
    for asset in dict.fromkeys([*assets, *sorted(known)]):
        groups[asset[0], plain_id(asset[1])].append(asset)
    firsts = {asset: group for group in groups.values() for asset in group[:1]}
    return {asset: [section for _, section in firsts[asset][1:]] for asset in assets if len(firsts.get(asset, ())) > 1}


def plain_id(section_id: str) -> str:
    """An id without what people write or leave out at will: case, spaces, dashes, underscores, leading zeros."""
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", fold(section_id))
