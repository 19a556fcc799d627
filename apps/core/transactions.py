"""
The only place that opens a transaction (house style, section 5).

`outermost` stands on what views, tasks and acts call; `required` on the parts that operations
compose. `snapshot` is for reads of several statements that must agree with each other, and cannot
write; `limited` for reads that must not take long. There is no other way, and no savepoint; but for
a statement that is all of its transaction, or makes its own (`statements.alone`, docs/adr/0178).
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Final

import structlog
from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    connection,
    transaction,
)

from apps.core import statements
from apps.core.errors import InvariantBroken, Refusal

log = structlog.get_logger(__name__)

# Serialization failure and deadlock: Postgres undid everything, so the whole may run again.
RETRIED: Final = frozenset({"40001", "40P01"})
# The server ended the session: shut down, crashed. Without any SQLSTATE the socket is gone.
_SESSION_ENDED: Final = frozenset({"57P01", "57P02", "57P03"})
# It ended one that stood still in a transaction: a process that was stopped for a while finds that.
# Nothing was committed. (One that was too long in one, 25P04, may be the work's own fault.)
OVERDUE: Final = frozenset({"25P03"})
DELAYS_SECONDS_MAX: Final = (0.02, 0.06, 0.18, 0.5)

_run_again_on: set[str] = set()

type RefusalWriter = Callable[[Refusal], bool | None]


class RunAgainAfter(Exception):
    """
    Raised inside an operation: roll back, call `remedy`, and run the whole once more.

    For what must be done first under locks that come before those held by now. Like every run
    that is repeated, it is counted.
    """

    def __init__(self, remedy: Callable[[], object]) -> None:
        super().__init__("This operation is to be run again.")
        self.remedy = remedy


@dataclass(slots=True)
class Unit:
    """One run of an outermost operation: what it owes before commit, and if it is refused."""

    before_commit: list[Callable[[], None]] = field(default_factory=list)
    on_refusal: list[RefusalWriter] = field(default_factory=list)
    events: list[object] = field(default_factory=list)
    resolvable: bool = False
    committing: bool = False


_current: ContextVar[Unit | None] = ContextVar("kassa_unit", default=None)


def current() -> Unit:
    """
    Return the running unit.

    :raises InvariantBroken: outside an outermost operation
    """
    unit = _current.get()
    if unit is None or not connection.in_atomic_block:
        msg = "This runs inside an outermost operation only."
        raise InvariantBroken(msg)
    return unit


def outermost[**P, R](operation: Callable[P, R]) -> Callable[P, R]:
    """
    Run the operation in one durable transaction, again as a whole on 40001 and 40P01.

    The body may run five times and touches only the database. A refusal rolls everything back;
    then what was given to `on_refusal` is written in a second transaction.
    """

    @wraps(operation)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        delays = iter(DELAYS_SECONDS_MAX)
        while True:
            unit = Unit()
            try:
                return _run_once(unit, lambda: operation(*args, **kwargs))
            except RunAgainAfter as again:
                if next(delays, None) is None:
                    raise
                again.remedy()
            except Refusal as refusal:
                # True: another request with this key was decided meanwhile, and its answer is the
                # answer, which the next run finds. Like every run, that one is counted.
                if not _record_refusal(unit, refusal) or next(delays, None) is None:
                    raise
            except (OperationalError, InterfaceError, IntegrityError, InternalError) as fault:
                _wait_before_another(unit, fault, delays, operation=operation.__name__)

    return run


def _run_once[R](unit: Unit, body: Callable[[], R]) -> R:
    token = _current.set(unit)
    try:
        with transaction.atomic(durable=True):  # noqa: TID251  (the one place)
            try:
                result = body()
                for step in unit.before_commit:
                    step()
                unit.committing = True
                statements.commit()
            finally:
                # Before the ROLLBACK: what waits is of this transaction, and of no later one.
                statements.forget()
        return result
    finally:
        _current.reset(token)


def _record_refusal(unit: Unit, refusal: Refusal) -> bool:
    """Write what outlives a refusal; true if another request's answer was found instead."""
    if not unit.on_refusal:
        return False

    @outermost
    def record_refusal() -> bool:
        # No short circuit: every writer has something of its own to keep.
        return bool([writer for writer in unit.on_refusal if writer(refusal)])

    return record_refusal()


def _wait_before_another(
    unit: Unit,
    fault: OperationalError | InterfaceError | IntegrityError | InternalError,
    delays: Iterator[float],
    *,
    operation: str,
) -> None:
    """Wait as long as the run before another one should, or raise the fault."""
    delay = next(delays, None)
    if sqlstate(fault) in OVERDUE:
        # The driver takes it for a bug of ours; whoever called is told of a lost session.
        raise OperationalError(*fault.args) from fault.__cause__
    if delay is None or not _may_run_again(unit, fault):
        raise fault
    log.info("transaction_again", operation=operation, fault=sqlstate(fault))
    time.sleep(random.uniform(0, delay))  # noqa: S311  (jitter, not a secret)


def _may_run_again(unit: Unit, fault: DatabaseError | InterfaceError) -> bool:
    if sqlstate(fault) in RETRIED or constraint_name(fault) in _run_again_on:
        return True
    # The connection went away inside COMMIT: the outcome is unknown. Where an idempotency key was
    # claimed, running again resolves it: the claim finds the committed row, or there is none. The
    # fault is asked, not the connection: Django may have made a new one by now.
    if unit.committing and unit.resolvable and _is_connection_lost(fault):
        connection.close()
        log.warning("commit_outcome_unknown")
        return True
    return False


def _is_connection_lost(fault: DatabaseError | InterfaceError) -> bool:
    state = sqlstate(fault)
    is_ended = not state or state.startswith("08") or state in _SESSION_ENDED
    return is_ended and not isinstance(fault, IntegrityError | InternalError)


def sqlstate(fault: BaseException) -> str:
    """Return the SQLSTATE behind a database error, or an empty text."""
    return getattr(fault.__cause__, "sqlstate", None) or ""


def constraint_name(fault: BaseException) -> str:
    """Return the name of the constraint a database error broke, or an empty text."""
    diagnosis = getattr(fault.__cause__, "diag", None)
    return getattr(diagnosis, "constraint_name", None) or ""


def has_given_up(fault: BaseException) -> bool:
    """
    Say whether an operation ended because others kept coming first, however often it ran.

    Nothing was written, and the same request may be made again.
    """
    return (
        isinstance(fault, RunAgainAfter)
        or sqlstate(fault) in RETRIED
        or constraint_name(fault) in _run_again_on
    )


def run_again_on_unique(name: str) -> None:
    """
    Run an operation again as a whole when it loses a race for this unique constraint.

    The second run reads what the winner committed, and answers it.
    """
    _run_again_on.add(name)


def refuse_inside() -> None:
    """
    Refuse to be called inside a transaction, as an outermost operation does.

    :raises RuntimeError: if one is open on this thread's connection
    """
    blocks = connection.atomic_blocks
    if blocks and not getattr(blocks[-1], "_from_testcase", False):
        msg = "An outermost operation is not called inside a transaction."
        raise RuntimeError(msg)


def release_connection() -> None:
    """
    Give a pooled connection back, where this thread holds one and is in no transaction.

    For a thread that is about to wait for another one, which needs a connection to go on: threads
    that wait with a connection in hand can keep the pool from the one they wait for.
    """
    is_pooled = bool(connection.settings_dict["OPTIONS"].get("pool"))
    if is_pooled and connection.connection is not None and not connection.in_atomic_block:
        connection.close()


def required[**P, R](operation: Callable[P, R]) -> Callable[P, R]:
    """Refuse to run outside an outermost operation; add no savepoint."""

    @wraps(operation)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        current()
        return operation(*args, **kwargs)

    return run


class _Snapshot(transaction.Atomic):
    """The block of a transaction that is read in as of one instant."""


@contextmanager
def snapshot() -> Iterator[None]:
    """
    Read as of one instant (REPEATABLE READ), in a transaction that cannot write.

    Within another snapshot it is of that one's instant. Nor does it begin in any other transaction.
    """
    if connection.atomic_blocks and isinstance(connection.atomic_blocks[-1], _Snapshot):
        yield
        return
    with _Snapshot(using=None, savepoint=True, durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


@contextmanager
def long_snapshot() -> Iterator[None]:
    """
    Read as of one instant for as long as it takes, whatever the role may take otherwise.

    For what an operator started and reads all there is, while nobody may be reading what it writes.
    """
    with snapshot():
        with connection.cursor() as cursor:
            cursor.execute(_UNLIMITED)
        yield


# Those of them that this Postgres has.
_UNLIMITED: Final = """
    SELECT set_config(name, '0', TRUE) FROM pg_settings
     WHERE name IN ('statement_timeout', 'transaction_timeout',
                    'idle_in_transaction_session_timeout')
"""


@contextmanager
def limited(*, seconds: float) -> Iterator[None]:
    """Read in a transaction of which no statement takes longer: Postgres cancels it (57014)."""
    with transaction.atomic(durable=True):  # noqa: TID251  (the one place)
        with connection.cursor() as cursor:
            limit = f"{round(seconds * 1000)}ms"
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [limit])
        yield


def on_refusal(writer: RefusalWriter) -> None:
    """
    Have `writer(refusal)` run in a second transaction if this operation is refused.

    A writer that returns true says "another request was answered meanwhile"; the operation then
    runs once more and finds that answer.
    """
    current().on_refusal.append(writer)


def on_commit(callback: Callable[[], None]) -> None:
    """Call after COMMIT; a fault in it is logged and changes nothing."""
    transaction.on_commit(callback, robust=True)
