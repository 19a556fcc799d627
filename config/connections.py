"""Connections of a pool."""

import select
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final, override

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

# How often psycopg looks up from a wait, as it does by itself, so that a signal is noticed.
_LOOK_SECONDS: Final = 0.1


class PooledConnection(psycopg.Connection[Any]):
    """
    A connection whose check, before a pool hands it out, costs no round trip.

    An idle server says nothing: while nothing is there to be read, it has not hung up. Whatever
    is there, its farewell most of all, is a reason to ask it, as the pool's own check does each
    time. Half of a short transaction's time between processes was that question.
    """

    @override
    def execute(self, query: Any, *args: Any, **kwargs: Any) -> psycopg.Cursor[Any]:
        # The pool asks the empty question (psycopg_pool, `ConnectionPool.check_connection`).
        if query == "" and not self.closed and not self._has_word():
            return self.cursor()
        return super().execute(query, *args, **kwargs)

    def _has_word(self) -> bool:
        looked = select.poll()
        looked.register(self.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(looked.poll(0))


class WebConnection(PooledConnection):
    """
    A connection whose server is not waited for without end.

    A server that is stopped, or waits for its disk, ends nothing at its own timeouts, and none of
    them ends a COMMIT that waits for a standby: whoever waits would keep a thread, and in the end
    all threads, for as long as that takes. So one that says nothing for `answer_seconds_max` is
    given up (operations.md, section 3; docs/adr/0165). It is not asked to cancel what it is at: it
    would not hear it, and a COMMIT that is canceled there may stand here and on no standby.
    """

    # Of one wait, which is that for all answers of a trip. A statement may take half of it.
    answer_seconds_max: ClassVar[float] = 10.0

    @override
    def wait[RV](
        self,
        gen: PQGen[RV],
        interval: float = _LOOK_SECONDS,
        timeout: float | None = None,
    ) -> RV:
        try:
            return super().wait(
                gen, interval, self.answer_seconds_max if timeout is None else timeout
            )
        except psycopg.OperationalError:
            # The time was up in the middle: nobody can say what would still come in.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise


class _Stack(deque[Any]):
    """Gives first what was added last: the pool adds on the right and takes from the left."""

    @override
    def append(self, connection: Any, /) -> None:
        self.appendleft(connection)


def hand_out_the_last(pool: ConnectionPool[Any] | None) -> None:
    """
    Have the pool hand out the connection that came back last, and not the one unused for longest.

    Each has a process of its own in the database. The one that worked a moment ago finds what it
    needs in its core's caches; in turn, eight processes find less of it each (docs/adr/0182). Who
    waits for a connection is served as before, in the order they came. What nobody needed for
    `max_idle` is still closed, one at a time.

    Where one turns out to be dead all that lie in the pool are looked at: the server was started
    anew, most often, and who meets them one by one waits a second for each after the first.
    """
    if pool is None:
        return
    # The pool has no choice of either.
    with pool._lock:  # noqa: SLF001
        pool._pool = _Stack(pool._pool)  # noqa: SLF001
        if pool._check is not None:  # noqa: SLF001
            pool._check = partial(_check_all_if_dead, pool, pool._check)  # noqa: SLF001


def _check_all_if_dead(
    pool: ConnectionPool[Any], check: Callable[[Any], None], connection: psycopg.Connection[Any]
) -> None:
    try:
        check(connection)
    except psycopg.Error:
        pool.check()
        raise
