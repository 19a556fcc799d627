"""Connections of a pool."""

import select
from typing import Any, override

import psycopg


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
