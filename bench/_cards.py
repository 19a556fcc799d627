"""
An app above the inbox, as small as one can be: cards, which a provider's events take step by step.

Kassa has no provider of its own yet whose events move something. The table is real, is locked as
any app locks its rows, and each event's effect is a row's new rank and an event of ours about it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from django.db import connection

from apps.core import outbox
from apps.core.events import Event
from apps.webhooks import registry
from apps.webhooks.registry import InboundMessage, Standing
from bench._rounds import ROUNDS

PROVIDER: Final = "sandbox"
# Warm-up and rounds, one each.
STEPS: Final = 1 + ROUNDS

# Cards of one organization, known before anything is told of them.
CREATE: Final = """
    CREATE TABLE bench_card (
        organization_id uuid, key text, rank int NOT NULL, PRIMARY KEY (organization_id, key)
    ) WITH (fillfactor = 70);
    INSERT INTO bench_card
    SELECT %(organization)s, 'card_' || number, 0 FROM generate_series(0, %(count)s - 1) AS number
"""
_LOCK: Final = """
    SELECT rank FROM bench_card WHERE organization_id = %s AND key = %s FOR NO KEY UPDATE
"""
_MOVE: Final = "UPDATE bench_card SET rank = %s WHERE organization_id = %s AND key = %s"


@dataclass(frozen=True, kw_only=True)
class CardMoved(Event):
    """A card went a step on."""

    name: ClassVar[str] = "bench.card.moved"
    aggregate_type: ClassVar[str] = "card"


class _Moving:
    """Takes a card a step on; which one it is, is the rank."""

    def lock(self, message: InboundMessage) -> Standing | None:
        with connection.cursor() as cursor:
            cursor.execute(_LOCK, [message.organization_id, message.object_key])
            found = cursor.fetchone()
        return None if found is None else Standing(subject=message.object_key, rank=found[0])

    def rank_of(self, message: InboundMessage) -> int:
        return int(message.type.rpartition(".")[2])

    def apply(self, subject: Any, message: InboundMessage) -> Event:  # noqa: ANN401  (a card's key)
        rank = self.rank_of(message)
        with connection.cursor() as cursor:
            cursor.execute(_MOVE, [rank, message.organization_id, subject])
        told = CardMoved(
            organization_id=message.organization_id,
            aggregate_id=subject,
            sequence=rank,
            occurred_at=message.now,
        )
        outbox.publish(told, actor=message.actor, now=message.now)
        return told


def register() -> None:
    """Have each step's events move cards."""
    for step in range(1, STEPS + 1):
        registry.register_inbound(
            provider=PROVIDER, type=type_of(step), handler=_Moving(), together=True
        )


def type_of(step: int) -> str:
    """Return the type of the events that take a card this step on."""
    return f"card.moved.{step}"
