"""What may hold up the close of a month beside what its test does: others on the server."""

from typing import NamedTuple

from tests.ledger.threads import sql


class Holder(NamedTuple):
    """A transaction with a number; `pid` is none where its backend is gone."""

    number: int
    pid: int | None
    is_of_this_database: bool


def holders() -> list[Holder]:
    """Return every transaction of the server that has a number, and so may have written."""
    rows = sql(
        "SELECT l.transactionid::text::bigint, a.pid,"
        "       a.pid IS NULL OR a.datname IS NOT DISTINCT FROM current_database()"
        "  FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid"
        " WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted"
    )
    return [Holder(*row) for row in rows]


def was_held_up(before: list[Holder], *, closing_after: int) -> bool:
    """
    Say whether somebody was in the way of a try to close, of those seen before it or now.

    Of this database, as autovacuum is; or of another, if its session ended meanwhile: then Postgres
    may have shown a lock of nobody.
    """
    pids = {pid for (pid,) in sql("SELECT pid FROM pg_stat_activity")}
    return any(
        one.number < closing_after and (one.is_of_this_database or one.pid not in pids)
        for one in [*before, *holders()]
    )
