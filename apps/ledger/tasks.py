"""Jobs of the ledger: sealing, ending holds whose time is over, the second step of a close."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import itemgetter
from uuid import UUID

import structlog

from apps.core import jobs, partitions, working
from apps.core import queries as core
from apps.ledger import operations, queries

log = structlog.stdlib.get_logger("kassa.ledger")


def register() -> None:
    """Declare the app's jobs, and what it needs events for; called when the app is ready."""
    minute = jobs.Every(minutes=1)
    jobs.declare(kind="ledger.seal", schedule=minute, steps=seal_due)
    jobs.declare(kind="ledger.expire_holds", schedule=minute, steps=expire_due)
    jobs.declare(kind="ledger.close_periods", schedule=minute, steps=close_periods)
    partitions.register_holder(name="ledger.seal", is_needed=queries.has_events_to_seal_before)


def seal_due(_period: str, now: datetime, place: str = "") -> Iterator[str]:
    """Seal what waits, a portion of each organisation in turn: none waits for a large one."""
    waiting = queries.list_organizations_to_seal()
    # What comes meanwhile is the next run's: on a busy feed there is always some more.
    goals = core.list_feed_positions()

    def seal_portion(id_: UUID) -> bool:
        return _seal_portion(id_, now) and not queries.is_sealed(
            organization_id=id_, position=goals[id_]
        )

    yield from _in_turn(waiting, seal_portion, place=place)


def _in_turn(
    waiting: list[UUID], work_portion: Callable[[UUID], bool], *, place: str
) -> Iterator[str]:
    """
    Work a portion of each organisation in turn, as long as it has more; yield who had one.

    It begins after the organisation whose turn was last, so that none is left out for ever.
    """
    waiting = sorted(waiting, key=lambda id_: (str(id_) <= place, id_))
    while waiting:
        left = []
        for id_ in waiting:
            if work_portion(id_):
                left.append(id_)
            yield str(id_)
        waiting = left


@contextmanager
def _apart(told: str, **of: str) -> Iterator[None]:
    """
    Tell of a fault, and go on: one organisation's must not keep the others from their turn.

    :raises OutOfTime: if the run's time is over
    """
    try:
        yield
    except working.OutOfTime:
        raise
    # The boundary: a chain that cannot go on, money that stays reserved, a month that stays open.
    # An invariant tells of entries that wait for an hour.
    except Exception:
        log.exception(told, **of)


def _seal_portion(organization_id: UUID, now: datetime) -> bool:
    with _apart("entries_not_sealed", organization_id=str(organization_id)):
        return operations.seal_entries(organization_id=organization_id, now=now) > 0
    return False


def expire_due(_period: str, now: datetime, place: str = "") -> Iterator[str]:
    """
    Release the holds whose time is over, a portion of each organisation in turn.

    Nothing depends on it but what is shown: an act decides by the clock, and where funds lack or a
    monitor watches such holds are released at once.
    """
    waiting = queries.organizations_with_expired_holds(now=now)
    yield from _in_turn(waiting, partial(_expire_portion, now=now), place=place)


def _expire_portion(organization_id: UUID, *, now: datetime) -> bool:
    with _apart("holds_not_expired", organization_id=str(organization_id)):
        return operations.expire_holds(organization_id=organization_id, now=now) > 0
    return False


def close_periods(_period: str, now: datetime, place: str = "") -> Iterator[str]:
    """Close every month that two people agreed to close and that nothing stands in the way of."""
    for organization_id, periods in groupby(queries.list_closing(), key=itemgetter(0)):
        # One that is not ready is still there, and was tried in this run.
        if str(organization_id) <= place:
            continue
        for _, period_id in periods:
            with _apart("period_not_closed", period_id=str(period_id)):
                operations.finish_closing(
                    organization_id=organization_id, period_id=period_id, now=now
                )
        yield str(organization_id)
