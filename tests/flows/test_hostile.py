"""Hostile uploads through the whole flow: every way in which one can end leaves the store whole.

`tests/hostile` takes every case as far as the ledgers; here a few go all the way, with Prefect.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.onboard import onboard
from schemas.errors import InputError
from schemas.references import Verdict
from schemas.settings import OnboardSettings
from tasks.runs import Manifest
from tasks.store import FolderStore
from tests.hostile.case import ACCEPTED, BAD_INPUT
from tests.hostile.corpus import corpus

CASES = (
    "a name with a parent folder",
    "a table with a quote that is never closed",
    "a table of two normals",
    "a recording with a value that is no number",
    "a workbook with dates as serial numbers",
    "a clip named like a script",
)


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_upload_ends_in_a_whole_run(name: str, tmp_path: Path, settings: OnboardSettings) -> None:
    case = corpus()[name]
    store = FolderStore(tmp_path / "store")
    (tmp_path / "upload").mkdir()
    source = case.make(tmp_path / "upload")

    state = onboard(str(source), "acme", store.url, settings, return_state=True)

    manifest = state.result(raise_on_failure=state.name != "Rejected")
    assert isinstance(manifest, Manifest)
    assert (state.name == "Rejected") == (case.exit_code != ACCEPTED)
    assert manifest.quality.bad_input == (case.exit_code == BAD_INPUT)
    assert {problem.rule for problem in manifest.quality.problems} >= {*case.rules, *case.notes}
    tops = {key.partition("/")[0] for key in store.list_keys()}
    filed = {"packages", "assets", "library", "customers"}
    assert tops == {"raw", "runs"} | (filed if manifest.result.verdict is not Verdict.REJECTED else set())
    assert store.get(manifest.package.raw_key) == source.read_bytes()
    pages = [store.get(key) for key in store.list_keys("runs/") if key.endswith(".html")]
    assert pages
    assert not [page for page in pages if b"<script>alert" in page]


def test_what_is_no_archive_is_kept_and_nothing_else(tmp_path: Path, settings: OnboardSettings) -> None:
    store = FolderStore(tmp_path / "store")
    source = corpus()["a zip cut off at 50%"].make(tmp_path)

    with pytest.raises(InputError, match="cut off"):
        onboard(str(source), "acme", store.url, settings)
    (key,) = store.list_keys()
    assert key.startswith("raw/acme/")
    assert store.get(key) == source.read_bytes()
