"""
The work of the inbox: what providers told is handed to its handlers, and let go of in time.

An event's row is the queue, as a lane's is for what is sent (`tasks`).
"""

import traceback
from collections.abc import Hashable, Iterator
from datetime import datetime
from functools import partial
from typing import Final

from apps.core import clock, work, working
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.working import Record, Together, Worker
from apps.webhooks import operations, registry
from apps.webhooks.models import InboundEvent
from apps.webhooks.states import InboundOutcome

INBOX: Final = Actor.job("webhooks.inbox")
# Longer messages are worked by themselves, one in memory at a time.
_SHARED_BYTES_MAX: Final = 64 * 1024


class HandlerFailed(Exception):
    """What a handler met, and where, without its words: they may repeat what a provider wrote."""

    def __init__(self, fault: Exception) -> None:
        self.code = fault.code if isinstance(fault, Refusal) else type(fault).__name__
        where = "".join(traceback.format_tb(fault.__traceback__)[-3:])
        super().__init__(f"{self.code}, met at\n{where}")


def _work_event(event: InboundEvent) -> Record[InboundEvent]:
    try:
        operations.work_event(claimed=event, actor=INBOX, now=clock.now())
    except Exception as fault:  # noqa: BLE001 - raised again, without its words
        raise HandlerFailed(fault) from None
    return working.recorded


def _alike(event: InboundEvent) -> Hashable:
    """Return what events have in common that may share a transaction: none was looked at yet."""
    is_new = event.outcome == InboundOutcome.RECEIVED and event.attempts == 1 and not event.lapses
    is_short = len(event.sealed_body or b"") <= _SHARED_BYTES_MAX
    may_share = registry.is_worked_together(provider=event.provider, type=event.type)
    return event.organization_id if is_new and is_short and may_share else None


def _work_events(events: list[InboundEvent]) -> Together[InboundEvent]:
    try:
        decided, left = operations.work_events(claimed=events, actor=INBOX, now=clock.now())
    except Exception as fault:  # noqa: BLE001 - raised again, without its words
        raise HandlerFailed(fault) from None
    return Together(left=left, lost=len(events) - decided - len(left))


def _put_event_off(event: InboundEvent, fault: Exception) -> None:
    code = fault.code if isinstance(fault, HandlerFailed) else type(fault).__name__
    work.mark_retry(event, error_code=code[:64])


INBOUND: Final = Worker(
    kind=operations.INBOUND_KIND,
    model=InboundEvent,
    task="webhooks.work_inbound",
    queue="events",
    # A body may be a mebibyte, and all that are claimed are in memory.
    batch=40,
    perform=_work_event,
    put_off=_put_event_off,
    alike=_alike,
    together=_work_events,
)
work_inbound: Final = working.register(INBOUND)


def purge_inbox(_period: str, now: datetime, _place: str = "") -> Iterator[str]:
    """Let go of what providers told once it was kept long enough, portion by portion."""
    for look in (
        operations.purge_inbound_bodies,
        partial(operations.purge_inbound_events, now=now),
    ):
        while look() == operations.PURGED_AT_ONCE:
            # What is gone is not looked at again, so it begins anywhere.
            yield ""
