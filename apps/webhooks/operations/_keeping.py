"""How long what a provider told is kept: its words for 90 days, that it came for 400."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db.models.functions import Now

from apps.core import transactions
from apps.core.work import WorkState
from apps.webhooks.models import InboundEvent

PURGED_AT_ONCE: Final = 1000
_BODY_KEPT: Final = timedelta(days=90)
# A little more than what the guard of the table holds to.
_KEY_KEPT: Final = timedelta(days=400, minutes=1)
# What is open, or set aside for a person, is still to be worked: it needs its body, and its key.
_SETTLED: Final = (WorkState.DONE, WorkState.FAILED)
_A_DAY: Final = timedelta(days=1)


@transactions.outermost
def purge_inbound_bodies() -> int:
    """Let go of bodies that were kept long enough, a thousand at most; return how many."""
    over = InboundEvent.objects.filter(
        sealed_body__isnull=False, received_at__lt=Now() - _BODY_KEPT, state__in=_SETTLED
    )
    ids = list(over.order_by("received_at").values_list("id", flat=True)[:PURGED_AT_ONCE])
    # One of them may have been released since: the row that was waited for is looked at again.
    settled = InboundEvent.objects.filter(id__in=ids, state__in=_SETTLED)
    return settled.update(sealed_body=None)


@transactions.outermost
def purge_inbound_events(*, now: datetime) -> int:
    """Let go of events that no provider repeats any more, a thousand at most; return how many."""
    # Ids carry their time, so that only the oldest rows are looked at.
    beyond = UUID(int=int((now - _KEY_KEPT + _A_DAY).timestamp() * 1000) << 80)
    over = InboundEvent.objects.filter(
        id__lt=beyond, received_at__lt=Now() - _KEY_KEPT, state__in=_SETTLED
    )
    ids = list(over.order_by("id").values_list("id", flat=True)[:PURGED_AT_ONCE])
    return InboundEvent.objects.filter(id__in=ids, state__in=_SETTLED).delete()[0]
