"""What a bank refused: by its code the money goes back, stays reserved, or does not move."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.ledger import operations as ledger
from apps.ledger.rules import Command
from apps.payouts.models import Payout, PayoutAttempt
from apps.payouts.operations import _books
from apps.payouts.operations._effects import apply_to_destinations
from apps.payouts.operations._following import follow
from apps.payouts.operations._moves import move_attempts, move_payouts
from apps.payouts.operations._report_words import REJECTED, Said
from apps.payouts.rules import Desk, Handling, MoneyEffect, handling
from apps.payouts.states import AttemptState, PayoutState


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Rejections of one chunk: each attempt by its code, all of their money in one posting."""

    payouts: Mapping[UUID, Payout]
    said: Mapping[UUID, Said]
    actor: Actor
    now: datetime

    def apply(self, attempts: Sequence[PayoutAttempt]) -> None:
        if not attempts:
            return
        for attempt in attempts:
            reason = self.said[attempt.id].reason
            attempt.bank_status = REJECTED
            attempt.reason_code = (reason.code or "")[:35]
            attempt.reason_text = reason.text[:500]
        shut = _books.closed_to_money(
            _books.accounts_of(self._of(attempts), now=self.now),
            organization_id=attempts[0].organization_id,
        )
        by_effect: dict[MoneyEffect, list[PayoutAttempt]] = {}
        for attempt in attempts:
            effect = self._row(attempt).reject
            if (
                effect is MoneyEffect.STAYS_RESERVED
                and self.payouts[attempt.payout_id].customer_id in shut
            ):
                # A frozen account takes no hold.
                effect = MoneyEffect.TO_SUSPENSE
            by_effect.setdefault(effect, []).append(attempt)
        self._doubt(by_effect.get(MoneyEffect.NOTHING_MOVES, []))
        commands = self._undo(
            [
                *by_effect.get(MoneyEffect.TO_CUSTOMER, []),
                *by_effect.get(MoneyEffect.TO_SUSPENSE, []),
            ]
        )
        commands += self._keep(by_effect.get(MoneyEffect.STAYS_RESERVED, []))
        if commands:
            ledger.post(
                organization_id=attempts[0].organization_id,
                commands=commands,
                actor=self.actor,
                now=self.now,
            )

    def _row(self, attempt: PayoutAttempt) -> Handling:
        return handling(attempt.reason_code)

    def _of(self, attempts: Sequence[PayoutAttempt]) -> list[Payout]:
        return [self.payouts[attempt.payout_id] for attempt in attempts]

    def _doubt(self, attempts: Sequence[PayoutAttempt]) -> None:
        """A duplicate, says the bank: it may hold an earlier copy, so nothing moves."""
        fresh = [one for one in attempts if one.state == AttemptState.SUBMITTED]
        fields = ["bank_status", "reason_code", "reason_text"]
        move_attempts(fresh, AttemptState.UNKNOWN, now=self.now, fields=fields)
        follow(self._of(fresh), actor=self.actor, now=self.now, reason="bank_says_duplicate")

    def _undo(self, attempts: Sequence[PayoutAttempt]) -> list[Command]:
        """To the customer: amount and fee come back, and the destination learns from the code."""
        if not attempts:
            return []
        commands = self._reject(attempts)
        follow(
            self._of(attempts),
            actor=self.actor,
            now=self.now,
            values={one.payout_id: self._failure(one) for one in attempts},
        )
        codes: dict[UUID, set[str]] = {}
        for attempt in attempts:
            destination_id = self.payouts[attempt.payout_id].destination_id
            codes.setdefault(destination_id, set()).add(attempt.reason_code)
        apply_to_destinations(
            organization_id=attempts[0].organization_id,
            codes=codes,
            actor=self.actor,
            now=self.now,
        )
        return commands

    def _keep(self, attempts: Sequence[PayoutAttempt]) -> list[Command]:
        """Our fault or the bank's: the capture is undone and held again, and somebody looks."""
        if not attempts:
            return []
        payouts = self._of(attempts)
        commands = self._reject(attempts)
        accounts = _books.accounts_of(payouts, now=self.now)
        for payout in payouts:
            payout.hold_id = new_id()
            payout.fee_hold_id = new_id() if payout.fee_hold_id is not None else None
            commands += _books.reserve(payout, accounts)
        Payout.objects.bulk_update(payouts, ["hold_id", "fee_hold_id"], batch_size=500)
        by_code: dict[str, list[Payout]] = {}
        for attempt, payout in zip(attempts, payouts, strict=True):
            by_code.setdefault(attempt.reason_code, []).append(payout)
        for code, group in by_code.items():
            move_payouts(
                group,
                PayoutState.HELD,
                actor=self.actor,
                now=self.now,
                reason="bank_rejected",
                values={"hold_reasons": ["bank_rejected"], "bank_code": code},
            )
        return commands

    def _reject(self, attempts: Sequence[PayoutAttempt]) -> list[Command]:
        accounts = _books.accounts_of(self._of(attempts), now=self.now)
        shut = _books.closed_to_money(accounts, organization_id=attempts[0].organization_id)
        commands = [
            command
            for attempt in attempts
            for command in _books.uncapture(
                self.payouts[attempt.payout_id],
                attempt,
                accounts,
                to_suspense=self.payouts[attempt.payout_id].customer_id in shut,
                effective_at=self.now,
            )
        ]
        move_attempts(
            attempts,
            AttemptState.REJECTED,
            now=self.now,
            fields=["reversal_entry_id", "bank_status", "reason_code", "reason_text"],
        )
        return commands

    def _failure(self, attempt: PayoutAttempt) -> dict[str, object]:
        # What compliance looks at is not told to the client (risk: no tipping off).
        is_told = self._row(attempt).desk is not Desk.COMPLIANCE
        return {
            "failure_code": "bank_rejected",
            "bank_code": attempt.reason_code if is_told else "",
        }
