"""What an asset's page says, put into words, tiles, figures and sounds for its template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.report.clips_view import describe_clips
from tasks.report.engine_view import describe_engine
from tasks.report.first_screen import answer
from tasks.report.next_steps import next_steps
from tasks.report.received_view import describe_received
from tasks.report.scores_view import describe_metrics, describe_scores
from tasks.report.verdicts import learnt_from
from tasks.report.words import Words

if TYPE_CHECKING:
    from tasks.report.pages import AssetPage

MAX_SCORE_ROWS = 300
"""Rows of a page's score table; the highest scores are kept."""


def describe(page: AssetPage, say: Words) -> dict[str, Any]:
    """What the template shows beside the page's own fields."""
    asset = page.selection.asset
    ranked = page.scores.assign(learnt=learnt_from(page.scores)).sort_values(
        ["score", "clip_id"], ascending=[False, True]
    )
    return {
        "asset": asset,
        "machine": say.machine(asset.machine_type, asset.section_id),
        "answer": answer(page, say),
        "received": describe_received(page, say),
        "engine": describe_engine(page.selection, say),
        "reason": say.translate(page.selection.reason),
        "caveats": [say.translate(caveat) for caveat in page.caveats],
        "scores": describe_scores(page, say),
        "metrics": describe_metrics(page, say),
        "clips": describe_clips(page, say),
        "better": next_steps(page, say),
        "graded": "grade" in page.scores,
        "table": ranked.head(MAX_SCORE_ROWS).to_dict("records"),
        "normals": sorted(zip(page.normal_ids, page.normal_scores, strict=True), key=lambda pair: (-pair[1], pair[0])),
        "facts": [
            (say("about.customer"), page.customer),
            (say("about.package"), page.package_name),
            (say("about.run"), page.run_id),
        ],
    }
