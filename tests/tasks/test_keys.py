"""Keys hold hashes and checked slugs, never a user's text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from tasks import keys
from tasks.store import check_key


@pytest.mark.parametrize("name", ["", "Acme", "a/b", "..", "acme ulsan", "-a", "a--b", "소리", "a" * 49])
def test_a_customer_that_is_no_slug_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="customer"):
        keys.check_customer(name)


def test_a_section_that_is_a_slug_reads_as_itself() -> None:
    assert keys.asset_id("fan", "00") == "fan-00"


@given(st.text(min_size=1, max_size=80))
def test_any_section_makes_a_key(section: str) -> None:
    check_key(keys.asset("acme", keys.asset_id("fan", section), "ledger.parquet"))


@given(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8))
def test_two_sections_never_share_a_key(one: str, other: str) -> None:
    assert (keys.asset_id("fan", one) == keys.asset_id("fan", other)) == (one == other)
