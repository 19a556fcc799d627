"""
An app of the tests' own above the inbox: things in a table, which events take from rank to rank.

The table is a real one and is locked as any app locks its rows.
"""

from __future__ import annotations

from django.db import connection

from apps.core import outbox, transactions
from apps.core.errors import RuleViolation
from apps.webhooks import operations, registry
from apps.webhooks.registry import Standing
from tests.webhooks.factories import ThingChanged
from tests.webhooks.inbox import say

RANKS = {"thing.opened": 1, "thing.funded": 2, "thing.paid": 3, "thing.closed": 4}
FINAL = 4

_CREATE = """
    CREATE TABLE tests_thing (
        organization_id uuid, key text, rank int NOT NULL DEFAULT 0,
        effects text[] NOT NULL DEFAULT '{}', PRIMARY KEY (organization_id, key)
    )
"""
_LOCK = """
    SELECT key, rank, cardinality(effects) FROM tests_thing
     WHERE organization_id = %s AND key = %s FOR NO KEY UPDATE
"""
_APPLY = """
    UPDATE tests_thing SET rank = %s, effects = effects || %s
     WHERE organization_id = %s AND key = %s
"""


class Things:
    """Takes a thing to the rank of the event's type."""

    def lock(self, message):
        with connection.cursor() as cursor:
            cursor.execute(_LOCK, [message.organization_id, message.object_key])
            found = cursor.fetchone()
        if found is None:
            return None
        return Standing(subject=found, rank=found[1], is_final=found[1] == FINAL)

    def rank_of(self, message):
        return RANKS[message.type]

    def apply(self, subject, message):
        key, _, effects = subject
        with connection.cursor() as cursor:
            cursor.execute(
                _APPLY,
                [RANKS[message.type], [message.event_id], message.organization_id, key],
            )
        told = ThingChanged(
            organization_id=message.organization_id,
            aggregate_id=f"{key}_of_{message.organization_id.hex[-8:]}",
            sequence=effects + 1,
            occurred_at=message.now,
        )
        outbox.publish(told, actor=message.actor, now=message.now)
        return told


class NotNow(RuleViolation):
    """A rule of the app above says no."""

    code = "not_now_of_tests"


class Failing(Things):
    """Raises with what the provider wrote, as careless code does."""

    def lock(self, message):
        raise ValueError(f"Cannot read {message.body!r} of {message}")


def create_table():
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS tests_thing; {_CREATE}")


def drop_table():
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE tests_thing")


def register(handler, *, together=False):
    for type_ in RANKS:
        registry.register_inbound(
            provider="sandbox", type=type_, handler=handler, together=together
        )


@transactions.outermost
def appear(organization, key, *, rank=0):
    """Make a thing known, as the app does that asked the provider for it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO tests_thing (organization_id, key, rank) VALUES (%s, %s, %s)",
            [organization.id, key, rank],
        )
    operations.match_parked(organization_id=organization.id, provider="sandbox", object_key=key)


def standing(organization, key):
    """Return a thing's rank and the ids of the events that took it there."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT rank, effects FROM tests_thing WHERE organization_id = %s AND key = %s",
            [organization.id, key],
        )
        return cursor.fetchone()


def tell_each(organization, connection, number, types=tuple(RANKS)):
    """Have a thing appear, and the provider tell of each type, in this order."""
    appear(organization, f"thing_{number}")
    for type_ in types:
        say(connection, type_, f"thing_{number}", message_id=f"{number}-{RANKS[type_]}")


def tell_of(count, organization, connection, *, but=None):
    """Have so many things appear, and the provider tell that each was paid; one, funded."""
    for number in range(count):
        appear(organization, f"thing_{number}")
        type_ = "thing.funded" if number == but else "thing.paid"
        say(connection, type_, f"thing_{number}", message_id=f"msg_{number}")


def are_final(count, organization):
    """Say whether so many things of `tell_each` are at their end, and got there rank by rank."""
    for number in range(count):
        rank, effects = standing(organization, f"thing_{number}")
        ranks = [int(each.partition("-")[2]) for each in effects]
        if rank != FINAL or ranks != sorted(set(ranks)):
            return False
    return True
