"""Cron expressions are checked before a server sees them."""

from __future__ import annotations

import pytest

from schemas.crons import check_cron


@pytest.mark.parametrize(
    ("cron", "kept"),
    [
        ("* * * * *", "* * * * *"),
        ("*/15  * * * *", "*/15 * * * *"),
        ("0 9-17/2 * * MON-FRI", "0 9-17/2 * * mon-fri"),
        ("0,30 6 1,15 jan,jul *", "0,30 6 1,15 jan,jul *"),
        ("5/10 0 * * 7", "5/10 0 * * 7"),
        ("0 0 29 2 *", "0 0 29 2 *"),
        ("0 0 31 2 mon", "0 0 31 2 mon"),
    ],
)
def test_what_a_server_will_run_is_taken(cron: str, kept: str) -> None:
    assert check_cron(cron) == kept


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("*/15 * * *", "has 4"),
        ("@hourly", r"write '0 \* \* \* \*'"),
        ("@Daily", r"write '0 0 \* \* \*'"),
        ("@reboot", "no cron expression of five fields"),
        ("0 0 * * * *", "has 6; seconds are none of them"),
        ("0 6 L * *", "no day of the month"),
        ("0 6 * * mon#1", "no day of the week"),
        ("60 * * * *", "'60' is no minute: it lies in 0-59"),
        ("* 25 * * *", "no hour"),
        ("* * 0 * *", "no day of the month"),
        ("* * * smarch *", "'smarch' is no month: write a number, or one of jan"),
        ("*/0 * * * *", "no minute"),
        ("30-10 * * * *", "the smaller number first"),
        ("* * * * mon,,tue", "no day of the week"),
        ("0 0 31 2,4 *", "never comes"),
        ("0 0 30 2 *", "never comes"),
    ],
)
def test_what_is_none_is_refused_with_a_remedy(cron: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_cron(cron)


def test_prefect_takes_what_is_taken_here() -> None:
    from prefect.client.schemas.schedules import CronSchedule

    for cron in ("0 9-17/2 * * mon-fri", "5/10 0 * * 7", "0,30 6 1,15 jan,jul *", "0 6 * * 5-7", "0 0 31 2 mon"):
        assert CronSchedule(cron=check_cron(cron), timezone="Asia/Seoul").cron == cron
