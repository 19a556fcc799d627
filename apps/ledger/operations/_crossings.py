"""A balance that crosses what a monitor watches is told of in the posting that made it cross."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import repeat
from typing import Final
from uuid import UUID

from apps.core import outbox, statements, transactions
from apps.core.ids import encode_id
from apps.core.outbox import Published
from apps.ledger import events, queries, rules
from apps.ledger.operations._origin import Origin
from apps.ledger.rules import BalanceState, Outcome

_MARK: Final = """
    UPDATE ledger_balance_monitor AS m
       SET is_beyond = n.is_beyond,
           triggered = m.triggered + n.times,
           event_sequence = m.event_sequence + n.times,
           triggered_at = CASE WHEN n.times > 0 THEN %(now)s ELSE m.triggered_at END
      FROM unnest(%(ids)s::uuid[], %(beyond)s::boolean[], %(times)s::bigint[])
           AS n(id, is_beyond, times)
     WHERE m.organization_id = %(org)s AND m.id = n.id
 RETURNING m.id, m.event_sequence
"""


@transactions.required
def tell_crossings(
    *,
    organization_id: UUID,
    balances: Mapping[UUID, BalanceState],
    outcomes: Sequence[Outcome],
    origins: Sequence[Origin],
    now: datetime,
    is_one_act: bool,
) -> None:
    """
    Tell of every threshold that these outcomes crossed, in their order, each by one event.

    Part of the posting: the caller holds the balances, and a posting that is rolled back tells
    nothing. Holds move `available` too. `origins` has one for all outcomes, or one for each. Of
    what is one act only the balances after all of it count: none between ever stood.
    """
    each = repeat(origins[0], len(outcomes)) if len(origins) == 1 else origins
    seen = [
        (after, origin)
        for outcome, origin in zip(outcomes, each, strict=True)
        for after in outcome.balances
        if balances[after.id].monitored
    ]
    if is_one_act:
        seen = list({after.id: (after, origin) for after, origin in seen}.values())
    # After the balances, ascending: creating and ending a monitor take both in the same order, so
    # nobody who holds a monitor waits for a balance.
    monitors = queries.lock_monitors(
        organization_id=organization_id, account_ids={after.id for after, _ in seen}
    )
    crossed, beyond = rules.crossings(monitors, [after for after, _ in seen])
    times = Counter(crossing.monitor_id for crossing in crossed)
    moved = [m for m in monitors if times[m.id] or m.is_beyond != beyond[m.id]]
    if not moved:
        return
    marked = statements.run(
        _MARK,
        {
            "org": organization_id,
            "now": now,
            "ids": statements.uuids([monitor.id for monitor in moved]),
            "beyond": statements.booleans([beyond[monitor.id] for monitor in moved]),
            "times": statements.int8s([times[monitor.id] for monitor in moved]),
        },
    )
    by_id = {monitor.id: monitor for monitor in monitors}
    # An event's sequence counts on from the monitor's last one, in the order of crossing.
    following = {id_: last - times[id_] + 1 for id_, last in marked}
    for crossing in crossed:
        monitor = by_id[crossing.monitor_id]
        event = events.BalanceMonitorTriggered(
            organization_id=organization_id,
            aggregate_id=encode_id("bm", monitor.id),
            sequence=following[monitor.id],
            occurred_at=now,
            ledger_account=encode_id("la", monitor.account_id),
            measure=monitor.measure,
            direction=monitor.direction,
            threshold=monitor.threshold_minor,
            balance=crossing.balance_minor,
            currency=balances[monitor.account_id].currency,
        )
        outbox.publish_taken([Published.of(event, *seen[crossing.place][1])])
        following[monitor.id] += 1
