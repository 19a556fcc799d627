"""The kinds of work: which rows they are, which task works them, how a worker is told to look."""

from dataclasses import dataclass
from typing import Final

import structlog
from django.db import DatabaseError, connection

from apps.core import claiming, nudging, transactions
from apps.core.errors import InvariantBroken
from apps.core.work._rows import WorkRow

log = structlog.get_logger(__name__)

# A lease is the hard limit of its work and this much, so that whoever takes a row over finds the
# one before gone. What a killed worker held is with another within a minute (ADR 0109).
HARD_SECONDS: Final = 32
_LEASE_MARGIN_SECONDS: Final = 15
TAKEN_OVER_SECONDS_MAX: Final = 60


def lease_of(hard_seconds: int) -> int:
    """Return for how long a row is leased whose work has ended, one way or another, after these."""
    return hard_seconds + _LEASE_MARGIN_SECONDS


@dataclass(frozen=True, slots=True)
class Kind:
    """
    One kind of work: its rows, and the task that looks for due ones.

    `condition` is SQL that says which rows are meant where several kinds share a table. After
    `hard_seconds` whoever works a row has ended: its task is killed then, or, in threads, whose
    tasks nobody kills, the work itself keeps to it.
    """

    name: str
    model: type[WorkRow]
    task: str
    queue: str
    hard_seconds: int = HARD_SECONDS
    in_threads: bool = False
    condition: str = ""

    @property
    def lease_seconds(self) -> int:
        """Return for how long a claimed row is the claimant's."""
        return lease_of(self.hard_seconds)


_kinds: dict[str, Kind] = {}


def register_kind(kind: Kind) -> None:
    """
    Have the sweeper enqueue the kind's task on its queue whenever rows of its model are due.

    Staff see its rows on the page of stuck work from then on, those that meet its condition.
    """
    _kinds[kind.name] = kind


def find_kind(name: str) -> Kind | None:
    """Return the kind of this name, or None."""
    return _kinds.get(name)


def kinds() -> list[Kind]:
    """Return every registered kind, by name."""
    return [_kinds[name] for name in sorted(_kinds)]


def due_kinds() -> list[Kind]:
    """
    Return the kinds that have a row due now, by the database's clock.

    One whose rows cannot be looked at is passed over: work of the others goes on without it.
    """
    return [kind for kind in kinds() if _is_due(kind)]


def _is_due(kind: Kind) -> bool:
    try:
        with connection.cursor() as cursor:
            # The table's name and the condition are ours; nothing of it comes from outside.
            cursor.execute(
                f'SELECT EXISTS (SELECT FROM "{kind.model._meta.db_table}"'  # noqa: S608
                f" WHERE {claiming.DUE} AND ({kind.condition or 'true'}))"
            )
            return bool((cursor.fetchone() or (False,))[0])
    # The boundary: a table that somebody has locked, or that a release does not know yet or any
    # more. Where there is no database at all, nothing can be said of any kind.
    except DatabaseError:
        if not connection.is_usable():
            raise
        log.exception("kind_not_looked_at", kind=kind.name)
        return False


def nudge(kind_name: str) -> None:
    """After COMMIT, tell a worker to look now. Losing it costs latency only; it never raises."""
    kind = _kinds.get(kind_name)
    if kind is None:
        msg = f"No work kind {kind_name!r} is registered."
        raise InvariantBroken(msg)
    transactions.on_commit(lambda: nudging.send(kind))


def sweep() -> None:
    """Send the task of each kind that has due rows, outside a transaction. It needs no memory."""
    for kind in due_kinds():
        nudging.send_hint(kind)
