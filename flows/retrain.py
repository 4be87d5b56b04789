"""retrain: the machines of a type learn anew from the library as it is now; a champion gives way only to its equal.

Every machine of the type that has a champion, whosever it is, gets a challenger, by its own settings and by what its
customer may learn from. One that is not worse than the champion on recordings that both are asked about becomes
champion, and the one before is kept; one that is worse is refused, which is no failure. A machine that cannot be
challenged stops no other; the whole then ends failed, with the remedies as its message.
"""

from __future__ import annotations

from prefect import State, flow, task

from flows.score import score, score_tests
from flows.select import select
from schemas.references import Calibrated
from schemas.settings import GrowthPolicy
from tasks.calibrating import decide_and_measure, set_threshold
from tasks.challenging import (
    Bout,
    Entrant,
    Outcome,
    RetrainReport,
    compare_with_champion,
    conclude_rest,
    conclude_retraining,
    decide_succession,
    find_comparison,
    find_entrants,
    prepare_challenge,
    refresh_fleets,
    settled_already,
    with_caveats,
)
from tasks.ends import why_failed
from tasks.growth import begin_retraining, end_retraining
from tasks.heartbeats import own_signs_only
from tasks.publishing import finish_run
from tasks.reporting import write_asset_page, write_package_page
from tasks.scoring import find_unscored
from tasks.showing import shown
from tasks.spreading import spread
from tasks.task_runner import ChosenRunner

BY_DEFAULT = GrowthPolicy()


@shown(machine="{machine_type}")
@flow(name="retrain", flow_run_name="retrain-{machine_type}", task_runner=ChosenRunner)
def retrain(
    machine_type: str,
    store: str,
    growth: GrowthPolicy = BY_DEFAULT,
    recordings: int | None = None,
    customer: str | None = None,
    only_if_due: bool = True,
) -> State[RetrainReport]:
    """Challenge every champion of a machine type, where its library has grown enough.

    recordings, customer: how many new normals asked for it, and whose they are, where an onboarding did.
    """
    grown = begin_retraining(machine_type, store, growth, only_if_due=only_if_due)
    if only_if_due and not grown.due:
        return conclude_rest(grown)
    entrants = find_entrants(machine_type, store)
    with own_signs_only():
        ended = spread(try_challenge, entrants, store)
    outcomes = [end for end in ended if isinstance(end, Outcome)]
    failed = {entrant.name: end for entrant, end in zip(entrants, ended, strict=True) if isinstance(end, str)}
    if promoted := sorted({outcome.customer for outcome in outcomes if outcome.became == "promoted"}):
        refresh_fleets(promoted, store)
    # What a machine that was put off has not learnt from stays new, and brings the next retraining.
    if (outcomes or not failed) and not any(outcome.put_off for outcome in outcomes):
        end_retraining(grown, store)
    return conclude_retraining(grown, outcomes, failed)


@task(name="Challenge a champion", task_run_name="Challenge the champion of {entrant.name}")
def try_challenge(entrant: Entrant, store: str) -> Outcome | str:
    """What became of a machine's champion, or why it could not be challenged, which stops no other."""
    state = challenge(entrant, store, return_state=True)
    return state.result() if state.is_completed() else why_failed(state)


@shown(customer="{entrant.customer}", machine="{entrant.asset}")
@flow(name="challenge", flow_run_name="challenge-{entrant.customer}-{entrant.asset}", task_runner=ChosenRunner)
def challenge(entrant: Entrant, store: str) -> Outcome:
    """Make one machine a challenger, compare it with the champion, and decide."""
    bout = prepare_challenge(entrant, store)
    if isinstance(bout, Outcome):
        return bout
    if (found := find_comparison(bout)) is not None:
        return settled_already(bout, found.challenger) or decide_succession(bout, found)
    [selection] = select([bout.asset], bout.run)
    [scores] = score([selection], bout.run)
    if (settled := settled_already(bout, scores.model)) is not None:
        return settled
    calibrated = decide_and_measure(scores, set_threshold(scores.model, bout.run), bout.run)
    [standing] = score_tests([find_unscored(selection, bout.champion, bout.run)], bout.run)
    comparison = compare_with_champion(bout, standing, calibrated)
    _hand_over(bout, with_caveats(calibrated, store))
    return decide_succession(bout, comparison)


def _hand_over(bout: Bout, calibrated: Calibrated) -> None:
    """Pages and manifest, before anybody is judged by the model."""
    write_asset_page(calibrated, bout.package, bout.quality, bout.run)
    write_package_page(bout.package, bout.quality, [calibrated], bout.run, [])
    finish_run(bout.package, bout.quality, [calibrated], [], bout.run)
