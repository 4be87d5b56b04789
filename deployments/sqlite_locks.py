"""How Prefect's server shares SQLite between its transactions: each takes the write lock as it begins.

Prefect begins most of its transactions `DEFERRED`. One that has read, and then writes after another one has written, is
refused at once, "database is locked", however long it is allowed to wait: what it has read holds no longer. Under load
that happened several times a minute, and what followed was worse than a repeated request:

- An event that was refused four times in a row is laid aside and counts for no automation. Where it told the end of a
  run, the run is taken for dead two minutes later (`deployments.zombies`).
- What a refused statement leaves is freed in the server's event loop, which waits for the connection to be idle. Is
  that connection waiting for the write lock, and the transaction that holds it for the event loop, all three stand
  still until SQLite gives up after a minute: no run begins meanwhile.

A transaction that begins `IMMEDIATE` waits for its turn instead. Few of Prefect's transactions only read; those wait
for theirs too. On PostgreSQL none of this is so, and nothing is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, ExecutionContext

_AS_PREFECT_BEGINS = "BEGIN DEFERRED"
_WITH_THE_LOCK = "BEGIN IMMEDIATE"


def lock_at_begin() -> None:
    """Let each transaction that this process begins on SQLite from now on take the write lock as it begins."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    event.listen(Engine, "before_cursor_execute", begin_with_the_lock, retval=True)


def begin_with_the_lock(
    connection: Connection,
    cursor: Any,
    statement: str,
    parameters: Any,
    context: ExecutionContext | None,
    executemany: bool,
) -> tuple[str, Any]:
    """What SQLAlchemy is to send instead of a statement, as its event `before_cursor_execute` asks, and with what."""
    return (_WITH_THE_LOCK if statement == _AS_PREFECT_BEGINS else statement), parameters
