"""
The lines of one transaction: what each is taken for, and by whom.

A line that is several transactions, or a whole batch, is posted to suspense in one entry and moved
on from there, so that each line has one posting on its bank account.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.banking.models import BankAccount, BankLine
from apps.core.actors import Actor
from apps.payments import operations as payments
from apps.payments.rules import IncomingTransfer
from apps.payments.states import UnmatchedReason
from apps.payouts import operations as payouts
from apps.payouts import queries as payouts_queries
from apps.payouts.queries import AttemptView, BatchView
from apps.payouts.rules import BankLineFact, LineOutcome
from apps.reconciliation import queries
from apps.reconciliation.operations._findings import Findings
from apps.reconciliation.operations._suspense import Suspense, booked_at
from apps.reconciliation.operations._units import LineUnits, units_of
from apps.reconciliation.rules import PARKED, Unit, choose_rule, explain_failure
from apps.reconciliation.states import BreakKind, Rule

STUMBLED: Final = "stumbled"
TAKEN: Final = frozenset({LineOutcome.APPLIED, LineOutcome.ALREADY_APPLIED})


@dataclass(slots=True)
class Chunk:
    """The lines of one transaction: what is posted, matched and broken."""

    account: BankAccount
    actor: Actor = field(kw_only=True)
    now: datetime = field(kw_only=True)
    attempts: dict[str, AttemptView] = field(default_factory=dict)
    batches: Mapping[str, BatchView] = field(default_factory=dict)
    transfers: list[tuple[Unit, IncomingTransfer]] = field(default_factory=list)
    _suspense: Suspense = field(init=False)
    _findings: Findings = field(init=False)

    def __post_init__(self) -> None:
        self._suspense = Suspense(self.account, actor=self.actor, now=self.now)
        self._findings = Findings(self.account, actor=self.actor, now=self.now)

    @property
    def organization_id(self) -> UUID:
        return self.account.organization_id

    @property
    def matched(self) -> int:
        return self._findings.matched

    @property
    def in_suspense(self) -> int:
        return self._findings.in_suspense

    # --- Choosing -------------------------------------------------------------------------------

    def match(self, lines: Sequence[LineUnits]) -> None:
        """Post new lines: payouts first, since they lock payouts before balances."""
        self._look_up(lines)
        through_suspense: list[LineUnits] = []
        for one in lines:
            self._findings.begin(one.line)
            rule = self._rule(one.units[0])
            if one.is_split or rule is Rule.PAYOUT_BATCH:
                through_suspense.append(one)
            elif rule in {Rule.PAYOUT, Rule.PAYOUT_RETURN}:
                self._payout(one.units[0], rule, money_account_id=self.account.ledger_account_id)
            elif rule is Rule.PAY_IN:
                self._transfer(one.units[0], money_account_id=self.account.ledger_account_id)
            else:
                self._leave(one.units[0], BreakKind.BANK_ONLY)
        self._through_suspense(through_suspense)
        self._receive()

    def suspend(self, lines: Sequence[LineUnits]) -> None:
        """Post lines that matching stumbles over to suspense, for a person to look at."""
        for one in lines:
            self._findings.begin(one.line)
            self._post_to_suspense(one.line)
            for unit in one.units:
                self._findings.note(unit, BreakKind.BANK_ONLY, reason=STUMBLED)
        self._suspense.flush()

    def match_again(self, lines: Sequence[BankLine]) -> None:
        """Try lines once more that stand in suspense because their time had not come."""
        units = units_of(self.organization_id, lines)
        self._look_up(units)
        taken = queries.find_matched(
            organization_id=self.organization_id, bank_line_ids=[line.id for line in lines]
        )
        for one in units:
            self._findings.begin(one.line)
            for unit in one.units:
                if (unit.line_id, unit.detail_id) in taken:
                    continue
                rule = self._rule(unit)
                if rule in {Rule.PAYOUT, Rule.PAYOUT_RETURN}:
                    account_id = self._suspense.account_for(unit.amount_minor)
                    self._payout(unit, rule, money_account_id=account_id, is_again=True)
                else:
                    # A part that nobody owns has its break: it waits for no other word.
                    self._findings.works[one.line.id].fail(BreakKind.BANK_ONLY)

    def leave_parked(self, lines: Sequence[BankLine]) -> None:
        """Leave parked lines that matching stumbles over as they are, until their next turn."""
        for line in lines:
            self._findings.begin(line)
            self._findings.works[line.id].fail(PARKED)

    def _look_up(self, lines: Sequence[LineUnits]) -> None:
        units = [unit for one in lines for unit in one.units]
        ids = {unit.end_to_end_id for unit in units if unit.end_to_end_id}
        names = {
            name
            for unit in units
            for name in (unit.payment_information_id, unit.message_id)
            if name and not unit.is_credit
        }
        if ids:
            self.attempts = payouts_queries.find_attempts(
                organization_id=self.organization_id, end_to_end_ids=ids
            )
        if names:
            self.batches = payouts_queries.find_batches(
                organization_id=self.organization_id, references=names
            )
        self._lock_ahead(units)

    def _lock_ahead(self, units: Sequence[Unit]) -> None:
        if not self.attempts and not self.batches:
            return
        payouts.lock_for_bank_lines(
            organization_id=self.organization_id,
            attempts=list(self.attempts.values()),
            batch_ids={
                self.batches[name].batch_id
                for unit in units
                if self._rule(unit) is Rule.PAYOUT_BATCH
                for name in (unit.payment_information_id, unit.message_id)
                if name in self.batches
            },
            returned={
                self.attempts[unit.end_to_end_id].attempt_id
                for unit in units
                if self._rule(unit) is Rule.PAYOUT_RETURN
            },
        )

    def _rule(self, unit: Unit) -> Rule | None:
        return choose_rule(unit, attempts=self.attempts, batches=self.batches)

    # --- Posting --------------------------------------------------------------------------------

    def _through_suspense(self, lines: Sequence[LineUnits]) -> None:
        """Post each line whole to suspense, then match its parts from there."""
        for one in lines:
            self._post_to_suspense(one.line)
        self._suspense.flush()
        for one in lines:
            for unit in one.units:
                rule = self._rule(unit)
                account_id = self._suspense.account_for(unit.amount_minor)
                if rule in {Rule.PAYOUT, Rule.PAYOUT_RETURN, Rule.PAYOUT_BATCH}:
                    self._payout(unit, rule, money_account_id=account_id)
                elif rule is Rule.PAY_IN:
                    self._transfer(unit, money_account_id=account_id)
                else:
                    self._leave(unit, BreakKind.BANK_ONLY)

    def _payout(
        self, unit: Unit, rule: Rule, *, money_account_id: UUID, is_again: bool = False
    ) -> None:
        """Ask payouts to take the unit; what it does not take stays in suspense with its break."""
        take = (
            payouts.return_from_bank_line
            if rule is Rule.PAYOUT_RETURN
            else payouts.settle_from_bank_line
        )
        result = take(
            organization_id=self.organization_id,
            fact=self._fact(unit, rule, money_account_id=money_account_id),
            actor=self.actor,
            now=self.now,
        )
        state = self._findings.works[unit.line_id]
        if is_again and result.outcome in TAKEN:
            self._findings.matched_again.add((unit.line_id, unit.detail_id))
        if result.outcome in TAKEN:
            on_bank = money_account_id == self.account.ledger_account_id
            if on_bank and result.entry_ids:
                state.entry_id = result.entry_ids[0]
            self._findings.match_payout(
                unit,
                rule,
                attempt_ids=result.attempt_ids,
                attempt=self.attempts.get(unit.end_to_end_id),
            )
            return
        failure = explain_failure(unit, result.outcome, self.attempts)
        if is_again:
            # What still has to wait decides: the line is tried again because of it.
            state.is_matched = False
            state.reason = PARKED if failure.is_parked else state.reason or failure.kind
        elif failure.is_parked or not unit.is_credit:
            self._leave(unit, failure.kind, reason=PARKED if failure.is_parked else "")
        else:
            # A return that no payout takes is money whose owner nobody knows.
            self._findings.note(unit, failure.kind)
            self._transfer(unit, money_account_id=money_account_id)

    def _fact(self, unit: Unit, rule: Rule, *, money_account_id: UUID) -> BankLineFact:
        is_batch = rule is Rule.PAYOUT_BATCH
        return BankLineFact(
            bank_line_id=unit.id,
            bank_account_id=self.account.id,
            money_account_id=money_account_id,
            amount_minor=abs(unit.amount_minor),
            currency=unit.currency,
            booked_at=booked_at(unit.booking_date, self.account),
            end_to_end_id=None if is_batch else unit.end_to_end_id,
            payment_information_id=unit.payment_information_id or None if is_batch else None,
            message_id=unit.message_id or None if is_batch else None,
            reason_code=unit.return_code or None,
            reason_text=unit.return_text,
        )

    def _transfer(self, unit: Unit, *, money_account_id: UUID) -> None:
        on_bank = money_account_id == self.account.ledger_account_id
        self.transfers.append(
            (
                unit,
                IncomingTransfer(
                    bank_line_id=unit.line_id,
                    bank_line_detail_id=unit.detail_id,
                    money_account_id=money_account_id,
                    amount_minor=unit.amount_minor,
                    currency=unit.currency,
                    received_at=booked_at(unit.booking_date, self.account),
                    creditor_references=unit.creditor_references,
                    texts=unit.texts,
                    sender_tail=unit.sender_tail,
                    sender_index=unit.sender_index,
                    suspense_entry_id=None
                    if on_bank
                    else self._findings.works[unit.line_id].entry_id,
                    is_return=unit.is_return,
                ),
            )
        )

    def _receive(self) -> None:
        """Have payments take all credits in one call, then post the debits that are left."""
        results = payments.receive_bank_transfers(
            organization_id=self.organization_id,
            transfers=[one for _unit, one in self.transfers],
            actor=self.actor,
            now=self.now,
        )
        for (unit, _one), received in zip(self.transfers, results, strict=True):
            state = self._findings.works[unit.line_id]
            state.entry_id = state.entry_id or received.entry_id
            if received.payment_id is not None:
                self._findings.match_payment(unit, received.payment_id)
            else:
                state.fail(received.reason)
                if unit.id not in self._findings.noted:
                    is_ambiguous = received.reason == UnmatchedReason.AMBIGUOUS_REFERENCE
                    self._findings.note(
                        unit, BreakKind.AMBIGUOUS if is_ambiguous else BreakKind.BANK_ONLY
                    )
        self.transfers = []
        self._suspense.flush()

    def _leave(self, unit: Unit, kind: BreakKind, *, reason: str = "") -> None:
        """Leave a debit in suspense, posting it there if it is a line of its own."""
        state = self._findings.works[unit.line_id]
        if state.entry_id is None:
            self._post_to_suspense(state.line)
        self._findings.note(unit, kind, reason=reason)

    def _post_to_suspense(self, line: BankLine) -> None:
        self._findings.works[line.id].entry_id = self._suspense.put(line)

    def record(self, *, turn: int) -> None:
        """Write matches, breaks and what became of the lines, beside their postings."""
        self._findings.record(turn=turn)
