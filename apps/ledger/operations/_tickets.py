"""Requests that are posted as a group: what each asks, and what it is answered."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import OperationalError

from apps.core import context, idempotency
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.idempotency import Asked, Claim
from apps.core.ids import encode_id
from apps.ledger.operations._origin import Origin
from apps.ledger.rules import Outcome, Transfer

# Where no entry stands.
NOBODY: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered: the entry that stands, or why there is none."""

    entry_id: UUID
    outcome: Outcome | None = None
    refusal: Refusal | None = None
    replayed: bool = False


class Ticket:
    """One request's transfer: what was asked, what it was answered, and when it was recorded."""

    __slots__ = (
        "actor", "answer", "asked", "came", "command", "fault", "is_engines", "met", "now",
        "origin", "recorded_at",
    )  # fmt: skip

    def __init__(self, asked: Asked, command: Transfer, actor: Actor, now: datetime) -> None:
        self.asked = asked
        self.command = command
        self.actor = actor
        self.origin = Origin.of(actor)
        self.now = now
        # On the monotonic clock.
        self.came = time.monotonic()
        self.answer: Answer | None = None
        self.fault: Exception | None = None
        # Whether only the engine may post it, as far as is known.
        self.is_engines = False
        # What its one run without the engine met, if that counts as the first of those it may have.
        self.met: Exception | None = None
        # That of what its group posted; None if it posted nothing.
        self.recorded_at: datetime | None = None

    @property
    def is_answered(self) -> bool:
        """Whether it is known what became of it."""
        return self.answer is not None or self.fault is not None

    @property
    def accounts(self) -> tuple[UUID, UUID]:
        """The accounts that it names."""
        return self.command.debit_account_id, self.command.credit_account_id

    @property
    def named(self) -> tuple[UUID, UUID, str]:
        """What others can hold that it waits for: its accounts and its key."""
        return *self.accounts, self.asked.key

    def taken(self) -> Answer:
        """
        Return the answer, in the context of the request that it is for.

        :raises Exception: whatever kept the transfer from being answered
        """
        if self.fault is not None:
            raise self.fault
        if self.answer is None:
            # The thread that wrote for this one was ended in the middle: the outcome is unknown.
            msg = "The transaction's outcome is unknown."
            raise OperationalError(msg)
        context.current().replayed = self.answer.replayed
        return self.answer


def claimed(claim: Claim | Refusal) -> Answer | None:
    """Return the answer that stands under a key already, or None for one that is new."""
    if isinstance(claim, Claim):
        return Answer(claim.resource_id, replayed=True) if claim.replayed else None
    is_replay = not isinstance(claim, idempotency.IdempotencyKeyReused)
    return Answer(NOBODY, refusal=claim, replayed=is_replay)


def of_key(ticket: Ticket, *, first: Ticket, answer: Answer | None) -> Answer:
    """Return a ticket's answer: the first one's of its key, which for a second one is a replay."""
    assert answer is not None  # noqa: S101  (every key was claimed or decided)
    if ticket is first:
        return answer
    same = (ticket.asked.operation, ticket.asked.fingerprint)
    if same != (first.asked.operation, first.asked.fingerprint):
        made = {} if answer.refusal else {"resource": encode_id("je", answer.entry_id)}
        return Answer(
            NOBODY,
            refusal=idempotency.IdempotencyKeyReused(
                "This idempotency key was used for another request.", **made
            ),
        )
    is_replay = not isinstance(answer.refusal, idempotency.IdempotencyKeyReused)
    return Answer(answer.entry_id, refusal=answer.refusal, replayed=is_replay)
