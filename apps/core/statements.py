"""
Statements of the hottest paths: prepared by the server, parameters and answers in binary.

Django's own cursor writes values into the text of each statement and waits for each. What posts
thousands of transfers goes past it, on the same connection and in the same transaction. There, what
is sent or asked waits, and goes out in one trip with the next whose answer somebody reads, before a
statement of Django's own, or with COMMIT. What uses the driver's connection itself calls `flush`.

A value is `%(name)s` in a statement (and `%%` is not unescaped), of just one of the types UUID,
str, int, bool, datetime, bytes and None, whose subclasses are refused. A column of values travels
as one array, at the speed of a copy: `uuids`, `texts` and the others make them. Columns of an
`unnest` behind `/* same */` travel once where each has one value for all rows (docs/adr/0116).
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from apps.core._arrays import booleans, byteas, instants, int4s, int8s, texts, uuids
from apps.core._wire import Pending, Wire, wire_of
from apps.core.errors import InvariantBroken

__all__ = [
    "Answer",
    "alone",
    "ask",
    "booleans",
    "byteas",
    "commit",
    "flush",
    "forget",
    "instants",
    "int4s",
    "int8s",
    "keeps_session",
    "run",
    "send",
    "start",
    "texts",
    "trips",
    "uuids",
]


class Answer:
    """The answer to a statement that may not have been sent yet."""

    __slots__ = ("_asked", "_django", "_wire")

    def __init__(self, django: BaseDatabaseWrapper, asked: Pending) -> None:
        self._django = django
        self._asked = asked
        # It outlives its connection, which may be lost by the time.
        self._wire = _wire(django)

    def rows(self) -> list[tuple[Any, ...]]:
        """
        Return the rows, having sent what waits.

        Errors are Django's, as from its own cursor: this statement's, or that of one before it in
        the same trip, which kept it from being carried out.
        """
        with self._django.wrap_database_errors:
            if not self._asked.is_answered:
                flush()
            return self._wire.rows(self._asked)

    def require(self) -> None:
        """Have what waits sent, and raise what this statement met, if anything; read nothing."""
        with self._django.wrap_database_errors:
            if not self._asked.is_answered:
                flush()
            if self._asked.fault is not None:
                raise self._asked.fault


def ask(statement: str, values: Mapping[str, object]) -> Answer:
    """Have one statement sent with the next trip; its rows are read from what is returned."""
    django = _connected()
    return Answer(django, _put(django, statement, values, is_silent=False))


def run(statement: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
    """Run one statement that answers rows, on Django's connection, and return them."""
    return ask(statement, values).rows()


def send(statement: str, values: Mapping[str, object]) -> Answer:
    """
    Have one statement sent with the next trip, at the latest with COMMIT.

    Its fault, one of Django's errors, shows there. Its rows may be read after that, by the
    same thread and while it has the connection.
    """
    django = _connected()
    return Answer(django, _put(django, statement, values, is_silent=True))


def alone(statement: str, values: Mapping[str, object], *, commits: bool = False) -> Answer:
    """
    Run a statement that is a transaction by itself, or CALLs what makes its own, in one trip.

    What `commits` before its end has no statement timeout, which would make a COMMIT that waits for
    a standby look like one that has it. Only where the session is this connection's own
    (`keeps_session`).

    What it met is met by whoever reads its rows. If the connection is lost that is an
    OperationalError or InterfaceError, and nobody can say what was carried out. What it has
    committed is durable once it is answered.

    :raises InvariantBroken: inside a transaction
    :raises OperationalError: if there is no connection; then nothing was sent
    """
    django = _connected()
    if django.in_atomic_block or not django.get_autocommit():
        msg = "What is a transaction of its own is not run inside another one."
        raise InvariantBroken(msg)
    asked = Pending(statement, values, is_silent=False)
    answer = Answer(django, asked)
    try:
        with django.wrap_database_errors:
            exchange = partial(
                _wire(django).exchange_alone, django.connection, asked, commits=commits
            )
            _watched(django, statement, values, exchange)
    finally:
        if django.connection.closed:
            # The next statement is for a new one.
            django.close()
    return answer


def keeps_session() -> bool:
    """Say whether what one statement sets is there for the next: no pooler shares the session."""
    return (
        connections[DEFAULT_DB_ALIAS].settings_dict["OPTIONS"].get("prepare_threshold") is not None
    )


def start() -> None:
    """
    Have Postgres begin with what waits, and go on without its answers.

    Worth it where the next statements take as long to make as these to be carried out: a trip that
    is made of little is dearer in two. In an operation's transaction only.
    """
    django = _connected()
    if not _wire(django).is_idle:
        with django.wrap_database_errors:
            _wire(django).start(django.connection)


def flush() -> None:
    """Send what waits: before what goes past Django's cursor too, as COPY does."""
    django = connections[DEFAULT_DB_ALIAS]
    if django.connection is not None and not _wire(django).is_idle:
        with django.wrap_database_errors:
            _exchange(django)


def commit() -> None:
    """
    Send what waits, and COMMIT in the same trip; inside another block, as tests have it, no COMMIT.

    Django does not mind that its own COMMIT finds nothing to do. For `transactions` alone.

    :raises InvariantBroken: if the transaction is to be rolled back though nothing was raised
    """
    django = connections[DEFAULT_DB_ALIAS]
    if django.needs_rollback:
        msg = "A statement failed and its fault was dropped: nothing of this may be committed."
        raise InvariantBroken(msg)
    if len(django.atomic_blocks) > 1:
        flush()
    elif django.connection is not None and _is_open(django):
        with django.wrap_database_errors:
            _exchange(django, commit=True)


def forget() -> None:
    """Drop what waits: its transaction is over. For `transactions` alone."""
    django = connections[DEFAULT_DB_ALIAS]
    if django.connection is not None:
        _wire(django).drop(django.connection)
    _listen(django, is_needed=False)


def trips() -> int:
    """Return how often this thread's connection has waited for answers of this module."""
    return _wire(_connected()).trips


def _connected() -> BaseDatabaseWrapper:
    # Each look through Django's `connection` finds this thread's anew, so there is one.
    django = connections[DEFAULT_DB_ALIAS]
    if not django.in_atomic_block:
        # As Django's own cursor does with a connection that was kept; a transaction began so.
        django.close_if_health_check_failed()
    django.ensure_connection()
    django.validate_no_broken_transaction()
    return django


def _wire(django: BaseDatabaseWrapper) -> Wire:
    return wire_of(django.connection)


def _is_open(django: BaseDatabaseWrapper) -> bool:
    """Say whether there is anything to commit."""
    status = django.connection.info.transaction_status
    return not _wire(django).is_idle or status != TransactionStatus.IDLE


def _exchange(django: BaseDatabaseWrapper, *, commit: bool = False) -> None:
    _listen(django, is_needed=False)
    _wire(django).exchange(django.connection, commit=commit)


def _put(
    django: BaseDatabaseWrapper, statement: str, values: Mapping[str, object], *, is_silent: bool
) -> Pending:
    asked = Pending(statement, values, is_silent=is_silent)
    _watched(django, statement, values, partial(_wire(django).waiting.append, asked))
    if django.in_atomic_block:
        _listen(django, is_needed=True)
    else:
        with django.wrap_database_errors:
            _exchange(django)
    return asked


def _watched(
    django: BaseDatabaseWrapper,
    statement: str,
    values: Mapping[str, object],
    put: Callable[[], None],
) -> None:
    """Show the statement to whatever watches or logs Django's; it waits to be sent after that."""
    wrappers = [wrapper for wrapper in django.execute_wrappers if wrapper is not _send_first]
    if not wrappers and not django.queries_logged:
        put()
        return

    def reached(*_: object) -> None:
        put()

    watched: Callable[..., Any] = reached
    for wrapper in reversed(wrappers):
        watched = partial(wrapper, watched)
    started = time.monotonic()
    watched(statement, values, False, {"connection": django, "cursor": None})  # noqa: FBT003  (Django's own signature of what wraps statements)
    if django.queries_logged:
        django.queries_log.append({"sql": statement, "time": f"{time.monotonic() - started:.3f}"})


def _listen(django: BaseDatabaseWrapper, *, is_needed: bool) -> None:
    """See to it that a statement of Django's own finds nothing waiting, or stop doing so."""
    wrappers: list[Any] = django.execute_wrappers
    if is_needed != (_send_first in wrappers):
        # The first is the outermost: what others do about a statement comes after it.
        wrappers.insert(0, _send_first) if is_needed else wrappers.remove(_send_first)


def _send_first(
    execute: Callable[..., Any],
    sql: str,
    params: object,
    many: bool,  # noqa: FBT001  (Django's own signature of what wraps statements)
    context: dict[str, Any],
) -> object:
    flush()
    return execute(sql, params, many, context)
