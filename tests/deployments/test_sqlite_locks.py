"""Prefect's server on SQLite: transactions that meet wait for their turn."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from deployments import capped_prefect
from deployments.sqlite_locks import begin_with_the_lock, lock_at_begin

_LISTENER = (Engine, "before_cursor_execute", begin_with_the_lock)


@pytest.fixture
def locking() -> Iterator[None]:
    """Transactions of this process take their lock as they begin, as long as the test runs."""
    lock_at_begin()
    try:
        yield
    finally:
        sa.event.remove(*_LISTENER)


def count_of_two_who_read_then_write(folder: Path) -> int:
    """Two transactions, begun as Prefect's are, that both read a number and then add one to it; what it is then.

    Raises
    ------
    OperationalError
        One of them was refused.
    """

    async def add_one(database: AioSqliteConfiguration, read: asyncio.Event, other_has_read: asyncio.Event) -> None:
        session = await database.session(await database.engine())
        async with session, database.begin_transaction(session):
            await session.execute(sa.text("SELECT n FROM counted"))
            read.set()
            # Whoever has to wait for its turn to read is not waited for.
            with suppress(TimeoutError):
                await asyncio.wait_for(other_has_read.wait(), 0.5)
            await session.execute(sa.text("UPDATE counted SET n = n + 1"))

    async def count() -> int:
        database = AioSqliteConfiguration(f"sqlite+aiosqlite:///{folder}/prefect.db")
        engine = await database.engine()
        try:
            async with engine.begin() as connection:
                await connection.execute(sa.text("CREATE TABLE counted (n INTEGER)"))
                await connection.execute(sa.text("INSERT INTO counted VALUES (0)"))
            one, other = asyncio.Event(), asyncio.Event()
            async with asyncio.TaskGroup() as both:
                both.create_task(add_one(database, one, other))
                both.create_task(add_one(database, other, one))
            async with engine.connect() as connection:
                return int((await connection.execute(sa.text("SELECT n FROM counted"))).scalar_one())
        finally:
            await engine.dispose()

    return asyncio.run(count())


def test_prefect_alone_refuses_one_of_two_that_read_and_then_write(tmp_path: Path) -> None:
    """Once this fails, Prefect has mended it, and `deployments.sqlite_locks` is to go."""
    with pytest.raises(ExceptionGroup) as refused:
        count_of_two_who_read_then_write(tmp_path)
    assert refused.group_contains(OperationalError, match="database is locked")


@pytest.mark.usefixtures("locking")
def test_with_the_lock_from_the_beginning_both_are_done(tmp_path: Path) -> None:
    assert count_of_two_who_read_then_write(tmp_path) == 2


@pytest.mark.parametrize(("service", "locks"), [("server", True), ("worker", False)])
def test_the_platforms_server_begins_so(monkeypatch: pytest.MonkeyPatch, service: str, locks: bool) -> None:
    seen = []
    monkeypatch.setattr(sys, "argv", ["prefect", service, "start"])
    monkeypatch.setattr("prefect.cli.app", lambda: seen.append(sa.event.contains(*_LISTENER)))
    try:
        capped_prefect.main()
    finally:
        if sa.event.contains(*_LISTENER):
            sa.event.remove(*_LISTENER)
    assert seen == [locks]
