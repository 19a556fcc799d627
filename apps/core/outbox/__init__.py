"""
The outbox: events leave in the transaction of their change, and are worked from rows.

`publish` takes the snapshot; the outermost operation writes all of a transaction's events by its
last statement, as one batch. The relay gives committed batches their position in the
organisation's feed and one work row per interested consumer; a consumer's effect and its `done`
commit together. See events.md, section 1.
"""

from apps.core.outbox._consuming import (
    CONSUME_KIND,
    CONSUMING,
    HARD_SECONDS,
    Consumer,
    consume,
    register_consumer,
)
from apps.core.outbox._publishing import (
    Published,
    apart,
    nudge,
    publish,
    publish_taken,
    together,
)
from apps.core.outbox._relaying import RELAY_KIND, relay, relay_organization

__all__ = [
    "CONSUME_KIND",
    "CONSUMING",
    "HARD_SECONDS",
    "RELAY_KIND",
    "Consumer",
    "Published",
    "apart",
    "consume",
    "nudge",
    "publish",
    "publish_taken",
    "register_consumer",
    "relay",
    "relay_organization",
    "together",
]
