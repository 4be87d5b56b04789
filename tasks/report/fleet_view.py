"""What the page of all machines says, put into words for its template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tasks.report import words
from tasks.report.first_screen import name_cadence, name_kpi, name_rule, name_time
from tasks.report.words import Said, Words
from tasks.watch_log import is_loud

if TYPE_CHECKING:
    from schemas.settings import AlarmPolicy
    from tasks.fleet import AssetCard, Fleet, Machine, Status, Watched
    from tasks.pacing import Pace

_TONES = {
    "ringing": "bad",
    "uncovered": "bad",
    "blind": "bad",
    "unset": "caution",
    "rehearsal": "plain",
    "drifted": "caution",
    "outrun": "caution",
    "changed": "caution",
    "unmet": "bad",
    "unproven": "caution",
    "covered": "good",
}


@dataclass(frozen=True)
class Cell:
    """One cell of a machine's line: lines of text, the first of which may carry a tone."""

    lines: Sequence[str]
    tone: str = "plain"


@dataclass(frozen=True)
class MachineLine:
    """One machine; `link` leads to its page where it has one, from the folder of the fleet's, as `evidence` does.

    `evidence` names what the alarm that is on was raised by. `detail` is what the monitor said of it, which is in the
    machine's own language.
    """

    name: str
    link: str | None
    status: str
    tone: str
    advice: str | None
    detail: Said | None
    evidence: Sequence[tuple[str, str]]
    cells: Sequence[tuple[str, Cell]]


def describe(fleet: Fleet, say: Words) -> dict[str, Any]:
    """What the template shows."""
    lines = [_line(machine, say) for machine in fleet.machines]
    counts = Counter(machine.status for machine in fleet.machines)
    worst = fleet.machines[0].status
    return {
        "headline": say(f"fleet.headline.{_group(worst)}", n=counts[worst], all=len(fleet.machines)),
        "tone": _TONES[worst],
        "counts": [(say(f"fleet.status.{status}"), count, _TONES[status]) for status, count in counts.items()],
        "lines": lines,
        "facts": [(say("about.customer"), fleet.customer)],
        "page": None,
    }


def _group(status: Status) -> str:
    """Which headline a fleet gets by its most urgent machine."""
    return status if status in ("ringing", "covered", "rehearsal", "unproven") else "attention"


def _line(machine: Machine, say: Words) -> MachineLine:
    card = machine.card
    cells = [("state", _alarm_cell(machine, say))]
    cells += [] if card is None else _card_cells(card, machine.pace, say)
    cells += [("recordings", _recordings_cell(machine, say))]
    if card is not None:
        cells.append(("run", _run_cell(card, say)))
    return MachineLine(
        name=say.machine(machine.machine_type, machine.section_id),
        link=None if card is None else _link(card.report),
        status=say(f"fleet.status.{machine.status}"),
        tone=_TONES[machine.status],
        advice=advise(machine, say),
        detail=_detail(machine),
        evidence=_evidence(machine.watched, say),
        cells=[(say(f"fleet.{name}"), cell) for name, cell in cells],
    )


def advise(machine: Machine, say: Words) -> str | None:
    """What to do about a machine; None where the monitor's own sentence says it in the same language."""
    detail = _detail(machine)
    if machine.status == "uncovered" and detail is not None and detail.language == say.language:
        return None
    return say(f"fleet.advice.{machine.status}")


def _link(key: str) -> str:
    # The page lies at customers/<customer>/fleet.html.
    return f"../../{key}"


def _evidence(watched: Watched | None, say: Words) -> list[tuple[str, str]]:
    if watched is None:
        return []
    found = (("fleet.picture", watched.picture), ("fleet.sound", watched.sound))
    return [(say(name), _link(key)) for name, key in found if key is not None]


def _alarm_cell(machine: Machine, say: Words) -> Cell:
    """The alarm as the monitor left it, and drift."""
    watched, unheard = machine.watched, _unheard_lines(machine, say)
    if watched is None:
        return Cell(unheard, "bad") if unheard else Cell([say("fleet.unwatched")])
    state = watched.alarm
    is_on = state.phase == "alarm" or watched.left_open
    alarm = _alarm_lines(watched, machine.card.policy if machine.card else None, say)
    lines = alarm + unheard if is_on else unheard + alarm
    if state.raised_at is not None and not watched.left_open:
        lines.append(say("fleet.alarm.last", time=f"{state.raised_at:%Y-%m-%d %H:%M}", n=state.raised))
    lines.append(
        say("fleet.judged.none")
        if watched.last is None
        else say("fleet.judged", n=watched.judged, time=f"{watched.last:%Y-%m-%d %H:%M}")
    )
    if watched.refused:
        lines.append(say("fleet.refused", n=watched.refused))
    drift = "unknown" if watched.drifted is None else "drifted" if watched.drifted else "none"
    lines.append(say(f"fleet.drift.{drift}"))
    is_bad = is_on or unheard or (state.phase == "hold_off" and is_loud(state))
    return Cell(lines, "bad" if is_bad else "caution" if drift == "drifted" else "plain")


def _alarm_lines(watched: Watched, policy: AlarmPolicy | None, say: Words) -> list[str]:
    """Whether it rings; of an alarm that the former model left open, also what was heard since."""
    state = watched.alarm
    kept = _loud_line(watched, policy, say) if is_loud(state) and state.phase != "alarm" else None
    if not watched.left_open:
        return [kept if kept and state.phase == "hold_off" else say(f"fleet.alarm.{state.phase}")]
    heard = kept or (say("fleet.alarm.lower", n=state.quiet_clips) if state.recent else say("fleet.alarm.unheard"))
    return [say("fleet.alarm.alarm"), say("fleet.alarm.left_open", time=f"{state.raised_at:%Y-%m-%d %H:%M}"), heard]


def _loud_line(watched: Watched, policy: AlarmPolicy | None, say: Words) -> str:
    state = watched.alarm
    if policy is None or state.last_time is None or state.phase != "hold_off" or state.held_s >= policy.hold_off_s:
        return say("fleet.alarm.loud")
    until = state.last_time + timedelta(seconds=policy.hold_off_s - state.held_s)
    return say("fleet.alarm.loud.until", time=f"{until:%Y-%m-%d %H:%M}")


def _unheard_lines(machine: Machine, say: Words) -> list[str]:
    """Since when no good recording comes, and of what sort those are that do; nothing where they come."""
    coverage = machine.coverage
    if coverage is None or coverage.covered:
        return []
    last = coverage.last_good
    since = say("fleet.unheard.never") if last is None else say("fleet.unheard.since", time=f"{last:%Y-%m-%d %H:%M}")
    return [since, say(f"fleet.unheard.{coverage.why}")]


def _detail(machine: Machine) -> Said | None:
    coverage = machine.coverage
    if coverage is None or coverage.covered:
        return None
    return Said(coverage.sentence, coverage.language)


def _card_cells(card: AssetCard, pace: Pace | None, say: Words) -> list[tuple[str, Cell]]:
    rule = card.rule
    rate = [say("tile.rate.value", rate=words.rate(rule.alarms_per_day)), say(f"tile.sure.{card.sureness}")]
    if rule.confidence_bound is not None:
        bound, confidence = words.rate(rule.confidence_bound), f"{rule.confidence:.0%}"
        rate.append(say("tile.rate.bound", bound=bound, confidence=confidence))
    rate.append(say("fleet.rate.cadence", cadence=name_cadence(card.policy, card.longest_s, say)))
    if card.advice == "blind":
        rate.append(say("fleet.rate.blind"))
    if pace is not None and pace.outrun:
        expected = rule.alarms_per_day * pace.measured / pace.stated
        rate.append(say("fleet.rate.outrun", measured=words.rate(pace.measured), rate=words.rate(expected)))
    is_rate = card.kpi.metric == "alarms_per_day"
    measured = words.rate(card.kpi_value) if is_rate else words.number(card.kpi_value)
    kpi = [say(f"kpi.status.{card.kpi_status}"), name_kpi(card.kpi, say)]
    kpi += [] if card.kpi_value is None else [say("fleet.measured", value=measured)]
    found = [say("fleet.found.none")]
    if card.faults or card.normals:
        found = [say("fleet.found.faults", found=card.found, faults=card.faults)]
        found.append(say("fleet.found.normals", high=card.false_alarms, normals=card.normals))
    kpi_tone = {"met": "good", "not_met": "bad"}.get(card.kpi_status, "caution")
    return [
        ("engine", Cell([f"{say.engine(card.engine)} · {card.encoder}"])),
        ("rule", Cell([name_rule(rule, say), say("fleet.delay", delay=name_time(rule.delay_s, say))])),
        ("rate", Cell(rate, "caution" if pace is not None and pace.outrun else "plain")),
        ("kpi", Cell(kpi, kpi_tone)),
        ("found", Cell(found, "bad" if card.advice == "blind" else "plain")),
    ]


def _recordings_cell(machine: Machine, say: Words) -> Cell:
    roles = ("target", "source", "test", "noise", "machine")
    held = machine.recordings
    return Cell([say(f"fleet.role.{role}", n=held[role]) for role in roles if role in held])


def _run_cell(card: AssetCard, say: Words) -> Cell:
    lines = [card.package]
    if card.last_recorded is not None:
        lines.append(say("fleet.recorded", day=f"{card.last_recorded:%Y-%m-%d}"))
    return Cell([*lines, say("fleet.run_id", run=card.run_id[:8])])
