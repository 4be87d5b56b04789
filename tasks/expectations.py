"""What the rule table says of a package as a whole: statements over the quality gate's table, in Great Expectations.

The gate judges clip by clip; a statement says for how many clips a rule has to hold for the package to be as one
should be (`Rule.mostly`): "at least 90 % of the recordings last 1 s or longer". It decides nothing, it tells the
engineer whether a fault is one clip's or the plant's. All statements are made from the rule table and the limits of
the run, so that gate and statements cannot disagree:

- a rule with a `measure` states that column's values against the limit of the settings;
- any other rule states the share of clips among whose reasons it does not stand.

The Data Docs page is rendered by Great Expectations into one file that loads nothing from elsewhere. Great
Expectations does not escape the values that it shows, so nothing but numbers goes in; which clips break a rule, the
package's page and quality.parquet say.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import pandas as pd
from prefect import task

from schemas.problems import Severity
from schemas.references import QualityReport, Run, Statement
from schemas.rules import RULES, Rule
from schemas.settings import QaLimits
from tasks import keys
from tasks.store import open_store

if TYPE_CHECKING:
    import great_expectations as gx

PAGE = "data-docs.html"
"""Name of the Data Docs page in a run's folder; the package's page lies beside it."""


@dataclass(frozen=True)
class Statements:
    """Every statement over one table, and their Data Docs page."""

    outcomes: tuple[Statement, ...]
    page: str


@task(name="State what holds of the package", task_run_name="State what holds of package {run.package_id}")
def write_statements(quality: QualityReport, run: Run) -> list[Statement]:
    """File the Data Docs page beside the run; the statements, none where the package has no readable table."""
    store = open_store(run.store)
    table = store.get_frame(quality.quality_key)
    if table.empty:
        return []
    found = state_quality(table, run.settings.qa)
    store.put(keys.run(run.customer, run.run_id, PAGE), found.page.encode())
    return list(found.outcomes)


def state_quality(quality: pd.DataFrame, limits: QaLimits) -> Statements:
    """State every rule about single clips over the gate's table.

    quality: one row a clip, at least one, as `tasks.quality.Judgement.quality`.
    """
    gx = _great_expectations()
    rules = _stated_rules(quality)
    asset = _context(gx).data_sources.add_pandas("package").add_dataframe_asset("recordings")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": _numbers(quality, rules)})
    suite = gx.ExpectationSuite(name="quality gate", expectations=[_expectation(rule, limits) for rule in rules])
    result = batch.validate(suite, result_format="SUMMARY")
    outcomes = tuple(_outcome(each) for each in result.results)
    return Statements(outcomes=outcomes, page=_render(result, outcomes, rules))


def _great_expectations() -> Any:
    # Read when the package is imported; by default it would send an event at every use.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    return great_expectations


def _context(gx: Any) -> Any:
    """A context in memory that writes no file, sends nothing and draws no bars."""
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        analytics_enabled=False,
        progress_bars={"globally": False},
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _stated_rules(quality: pd.DataFrame) -> list[Rule]:
    """The rules about a clip's sound, and those of the table and the archive that a clip breaks."""
    broken = set(itertools.chain.from_iterable(quality["reasons"]))
    return [rule for rule in RULES.values() if rule.id.startswith("clip.") or rule.id in broken]


def _numbers(quality: pd.DataFrame, rules: Sequence[Rule]) -> pd.DataFrame:
    """The measures, and of every rule without one whether a clip breaks it: numbers only, no text of a package."""
    measures = [rule.measure for rule in rules if rule.measure]
    numbers = quality[list(dict.fromkeys(measures))].astype("float64")
    reasons = [frozenset(each) for each in quality["reasons"]]
    for rule in rules:
        if not rule.measure:
            numbers[rule.id] = [int(rule.id in broken) for broken in reasons]
    return numbers


def _expectation(rule: Rule, limits: QaLimits) -> gx.expectations.Expectation:
    from great_expectations import expectations

    told: dict[str, Any] = {
        "mostly": 1.0 if rule.severity is Severity.ERROR else rule.mostly,
        "meta": {"rule": rule.id},
        "notes": f"{rule.id}: {rule.reason}",
        "severity": "warning" if rule.severity is Severity.WARN else "critical",
    }
    if rule.measure is None or rule.limit is None:
        return expectations.ExpectColumnValuesToBeInSet(column=rule.id, value_set=[0], **told)
    side = {"least": "min_value", "most": "max_value"}[rule.bound or "most"]
    return expectations.ExpectColumnValuesToBeBetween(
        column=rule.measure, **{side: float(getattr(limits, rule.limit))}, **told
    )


def _outcome(result: Any) -> Statement:
    config, found = result.expectation_config, result.result
    told = found["element_count"] - found["missing_count"]
    return Statement(
        rule=config.meta["rule"],
        needed=config.kwargs.get("mostly", 1.0),
        kept=1.0 if not told else 1 - found["unexpected_count"] / told,
        holds=bool(result.success),
    )


def _render(result: Any, outcomes: Sequence[Statement], rules: Sequence[Rule]) -> str:
    """The Data Docs page in our own frame: Great Expectations' loads styles, scripts and a picture from nine hosts."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    about: dict[str, list[Rule]] = {}
    for rule in rules:
        about.setdefault(rule.measure or rule.id, []).append(rule)
    folder = resources.files("tasks.report").joinpath("templates")
    with resources.as_file(folder) as templates:
        view = DefaultJinjaPageView(custom_views_directory=str(templates))
        # Ids from a count, so that the same run gives the same page.
        numbers = itertools.count(1)
        view.env.filters["generate_html_element_uuid"] = lambda prefix: f"{prefix}{next(numbers)}"
        return str(
            view.render(
                ValidationResultsPageRenderer().render(result),
                template="data_docs.html.j2",
                about=about,
                stated=len(outcomes),
                holding=sum(each.holds for each in outcomes),
            )
        )
