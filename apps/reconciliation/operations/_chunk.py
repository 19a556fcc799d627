"""
The lines of one transaction: what each is taken for, posted, and recorded as.

A line that is several transactions, or a whole batch, is posted to suspense in one entry and moved
on from there, so that each line has one posting on its bank account.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any, Final
from uuid import UUID

from apps.banking import operations as banking
from apps.banking.models import BankAccount, BankLine
from apps.banking.operations import LineOutcome as LineRecord
from apps.banking.states import LineState
from apps.core.actors import Actor
from apps.core.copying import copy_rows
from apps.core.ids import encode_id, new_id
from apps.core.wall_clock import first_instant_at
from apps.ledger import operations as ledger
from apps.ledger import queries as books
from apps.ledger.operations import AccountSpec
from apps.ledger.queries import Dating
from apps.ledger.rules import Command, transfer
from apps.payments import operations as payments
from apps.payments.rules import IncomingTransfer
from apps.payments.states import UnmatchedReason
from apps.payouts import operations as payouts
from apps.payouts import queries as payouts_queries
from apps.payouts.queries import AttemptView, BatchView
from apps.payouts.rules import BankLineFact, LineOutcome, LineResult
from apps.reconciliation import queries
from apps.reconciliation.models import Break, Match, MatchLeg
from apps.reconciliation.operations._breaks import open_breaks, resolve_breaks
from apps.reconciliation.operations._units import LineUnits, units_of
from apps.reconciliation.rules import PARKED, Unit, choose_rule, explain_failure
from apps.reconciliation.states import BreakKind, BreakState, Resolution, Rule, TargetKind

SUSPENSE_IN: Final = "suspense:in"
SUSPENSE_OUT: Final = "suspense:out"
STUMBLED: Final = "stumbled"
TAKEN: Final = frozenset({LineOutcome.APPLIED, LineOutcome.ALREADY_APPLIED})


@dataclass(slots=True)
class LineWork:
    """One line while it is matched: its entry, and what is not matched of it."""

    line: BankLine
    entry_id: UUID | None = None
    reason: str = ""
    is_matched: bool = True

    def fail(self, reason: str) -> None:
        self.is_matched = False
        self.reason = self.reason or reason


@dataclass(slots=True)
class Chunk:
    """The lines of one transaction: what is posted, matched and broken."""

    account: BankAccount
    actor: Actor = field(kw_only=True)
    now: datetime = field(kw_only=True)
    attempts: dict[str, AttemptView] = field(default_factory=dict)
    batches: Mapping[str, BatchView] = field(default_factory=dict)
    works: dict[UUID, LineWork] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    transfers: list[tuple[Unit, IncomingTransfer]] = field(default_factory=list)
    matches: list[Match] = field(default_factory=list)
    legs: list[MatchLeg] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    noted: set[UUID] = field(default_factory=set)
    matched_again: set[tuple[UUID, UUID | None]] = field(default_factory=set)
    _suspense: dict[str, UUID] = field(default_factory=dict)
    _dated: dict[date, Dating] = field(default_factory=dict)

    @property
    def organization_id(self) -> UUID:
        return self.account.organization_id

    @property
    def matched(self) -> int:
        return sum(one.is_matched for one in self.works.values())

    @property
    def in_suspense(self) -> int:
        return len(self.works) - self.matched

    # --- Choosing -------------------------------------------------------------------------------

    def match(self, lines: Sequence[LineUnits]) -> None:
        """Post new lines: payouts first, since they lock payouts before balances."""
        self._look_up(lines)
        through_suspense: list[tuple[LineUnits, Rule | None]] = []
        for one in lines:
            self.works[one.line.id] = LineWork(line=one.line)
            rule = self._rule(one.units[0])
            if one.is_split or rule is Rule.PAYOUT_BATCH:
                through_suspense.append((one, rule))
            elif rule in {Rule.PAYOUT, Rule.PAYOUT_RETURN}:
                self._payout(one.units[0], rule, money_account_id=self.account.ledger_account_id)
            elif rule is Rule.PAY_IN:
                self._transfer(one.units[0], money_account_id=self.account.ledger_account_id)
            else:
                self._leave(one.units[0], BreakKind.BANK_ONLY)
        self._through_suspense([one for one, _rule in through_suspense])
        self._receive()

    def suspend(self, lines: Sequence[LineUnits]) -> None:
        """Post lines that matching stumbles over to suspense, for a person to look at."""
        for one in lines:
            self.works[one.line.id] = LineWork(line=one.line)
            self._post_to_suspense(one.line)
            for unit in one.units:
                self._note(unit, BreakKind.BANK_ONLY, reason=STUMBLED)
        self._flush()

    def match_again(self, lines: Sequence[BankLine]) -> None:
        """Try lines once more that stand in suspense because their time had not come."""
        units = units_of(self.organization_id, lines)
        self._look_up(units)
        taken = queries.find_matched(
            organization_id=self.organization_id, bank_line_ids=[line.id for line in lines]
        )
        for one in units:
            self.works[one.line.id] = LineWork(line=one.line)
            for unit in one.units:
                if (unit.line_id, unit.detail_id) in taken:
                    continue
                rule = self._rule(unit)
                if rule in {Rule.PAYOUT, Rule.PAYOUT_RETURN}:
                    account_id = self._suspense_of(unit)
                    self._payout(unit, rule, money_account_id=account_id, is_again=True)
                else:
                    # A part that nobody owns has its break: it waits for no other word.
                    self.works[one.line.id].fail(BreakKind.BANK_ONLY)

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
        self._flush()
        for one in lines:
            for unit in one.units:
                rule = self._rule(unit)
                account_id = self._suspense_of(unit)
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
        state = self.works[unit.line_id]
        if is_again and result.outcome in TAKEN:
            self.matched_again.add((unit.line_id, unit.detail_id))
        if result.outcome in TAKEN:
            on_bank = money_account_id == self.account.ledger_account_id
            if on_bank and result.entry_ids:
                state.entry_id = result.entry_ids[0]
            self._match(unit, rule, result)
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
            self._note(unit, failure.kind)
            self._transfer(unit, money_account_id=money_account_id)

    def _fact(self, unit: Unit, rule: Rule, *, money_account_id: UUID) -> BankLineFact:
        is_batch = rule is Rule.PAYOUT_BATCH
        return BankLineFact(
            bank_line_id=unit.id,
            bank_account_id=self.account.id,
            money_account_id=money_account_id,
            amount_minor=abs(unit.amount_minor),
            currency=unit.currency,
            booked_at=self._booked_at(unit.booking_date),
            end_to_end_id=None if is_batch else unit.end_to_end_id,
            payment_information_id=unit.payment_information_id or None if is_batch else None,
            message_id=unit.message_id or None if is_batch else None,
            reason_code=unit.return_code or None,
            reason_text=unit.return_text,
        )

    def _booked_at(self, day: date) -> datetime:
        return first_instant_at(day=day, at=time(0), zone=self.account.zone)

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
                    received_at=self._booked_at(unit.booking_date),
                    creditor_references=unit.creditor_references,
                    texts=unit.texts,
                    sender_tail=unit.sender_tail,
                    sender_index=unit.sender_index,
                    suspense_entry_id=None if on_bank else self.works[unit.line_id].entry_id,
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
            state = self.works[unit.line_id]
            state.entry_id = state.entry_id or received.entry_id
            if received.payment_id is not None:
                self._match(unit, Rule.PAY_IN, None, payment_id=received.payment_id)
            else:
                state.fail(received.reason)
                if unit.id not in self.noted:
                    is_ambiguous = received.reason == UnmatchedReason.AMBIGUOUS_REFERENCE
                    self._note(unit, BreakKind.AMBIGUOUS if is_ambiguous else BreakKind.BANK_ONLY)
        self.transfers = []
        self._flush()

    def _leave(self, unit: Unit, kind: BreakKind, *, reason: str = "") -> None:
        """Leave a debit in suspense, posting it there if it is a line of its own."""
        state = self.works[unit.line_id]
        if state.entry_id is None:
            self._post_to_suspense(state.line)
        self._note(unit, kind, reason=reason)

    def _post_to_suspense(self, line: BankLine) -> None:
        state = self.works[line.id]
        state.entry_id = new_id()
        dating = self._dating(line.booking_date)
        bank, amount = self.account.ledger_account_id, abs(line.amount_minor)
        suspense = self._suspense_account(line.amount_minor)
        debit, credit = (bank, suspense) if line.amount_minor > 0 else (suspense, bank)
        self.commands.append(
            transfer(
                id_=state.entry_id,
                debit_account_id=debit,
                credit_account_id=credit,
                amount_minor=amount,
                currency=line.currency,
                kind="bank.suspend",
                reference=f"bank_line:{line.id}:post",
                effective_at=dating.effective_at,
                metadata={"bank_line": encode_id("bl", line.id), **dating.metadata},
            )
        )

    def _dating(self, day: date) -> Dating:
        """Return how a line of this booking day is dated; asked once for each day."""
        if day not in self._dated:
            at = self._booked_at(day)
            found = books.date_facts(organization_id=self.organization_id, instants=[at])
            self._dated[day] = found[at]
        return self._dated[day]

    def _suspense_of(self, unit: Unit) -> UUID:
        return self._suspense_account(unit.amount_minor)

    def _suspense_account(self, amount_minor: int) -> UUID:
        if not self._suspense:
            currency = self.account.currency
            specs = [
                AccountSpec(f"{SUSPENSE_IN}:{currency}", "liability", currency),
                AccountSpec(f"{SUSPENSE_OUT}:{currency}", "asset", currency),
            ]
            self._suspense = ledger.open_accounts(
                organization_id=self.organization_id, accounts=specs, now=self.now
            )
        name = SUSPENSE_IN if amount_minor > 0 else SUSPENSE_OUT
        return self._suspense[f"{name}:{self.account.currency}"]

    def _flush(self) -> None:
        if self.commands:
            ledger.post(
                organization_id=self.organization_id,
                commands=self.commands,
                actor=self.actor,
                now=self.now,
            )
            self.commands = []

    # --- Recording ------------------------------------------------------------------------------

    def _match(
        self,
        unit: Unit,
        rule: Rule,
        result: LineResult | None,
        *,
        payment_id: UUID | None = None,
    ) -> None:
        match = Match(
            id=new_id(),
            organization_id=self.organization_id,
            bank_line_id=unit.line_id,
            bank_line_detail_id=unit.detail_id,
            rule=rule,
            amount_minor=unit.amount_minor,
            currency=unit.currency,
            created_at=self.now,
        )
        self.matches.append(match)
        targets: list[tuple[TargetKind, UUID]] = []
        if payment_id is not None:
            targets.append((TargetKind.PAYMENT, payment_id))
        if result is not None:
            kind = (
                TargetKind.PAYOUT_RETURN
                if rule is Rule.PAYOUT_RETURN
                else TargetKind.PAYOUT_ATTEMPT
            )
            targets += [(kind, attempt_id) for attempt_id in result.attempt_ids]
        self.legs += [
            MatchLeg(
                id=new_id(),
                organization_id=self.organization_id,
                match_id=match.id,
                target_kind=kind,
                target_id=target_id,
            )
            for kind, target_id in targets
        ]
        if rule is Rule.PAYOUT_RETURN:
            self._note_return(unit)

    def _note_return(self, unit: Unit) -> None:
        """A payout that was settled came back: shown as a break that its own posting closes."""
        view = self.attempts.get(unit.end_to_end_id)
        self.breaks.append(
            self._break(
                unit,
                BreakKind.RETURNED_AFTER_MATCH,
                state=BreakState.RESOLVED,
                resolution=Resolution.EXPLAINED,
                reason="Closed by its own posting.",
                resolved_at=self.now,
            )
        )
        if view is not None and unit.amount_minor < view.amount_minor:
            self.breaks.append(self._break(unit, BreakKind.FEE_KEPT))

    def _note(self, unit: Unit, kind: BreakKind, *, reason: str = "") -> None:
        self.works[unit.line_id].fail(reason or kind)
        self.noted.add(unit.id)
        self.breaks.append(self._break(unit, kind))

    def _break(self, unit: Unit, kind: BreakKind, **more: Any) -> Break:  # noqa: ANN401  (further columns)
        return Break(
            id=new_id(),
            organization_id=self.organization_id,
            kind=kind,
            bank_account_id=self.account.id,
            bank_line_id=unit.line_id,
            bank_line_detail_id=unit.detail_id,
            amount_minor=unit.amount_minor,
            currency=unit.currency,
            first_seen_at=self.now,
            **more,
        )

    def record(self) -> None:
        """Write matches, breaks and what became of the lines, beside their postings."""
        if not self.works:
            return
        copy_rows(self.matches)
        copy_rows(self.legs)
        open_breaks(self.breaks, actor=self.actor, now=self.now)
        banking.record_line_outcomes(
            organization_id=self.organization_id,
            outcomes=[
                LineRecord(
                    line_id=line_id,
                    state=LineState.MATCHED if one.is_matched else LineState.IN_SUSPENSE,
                    entry_id=one.entry_id,
                    reason="" if one.is_matched else one.reason,
                )
                for line_id, one in self.works.items()
            ],
        )
        self._resolve()

    def _resolve(self) -> None:
        done = {line_id for line_id, one in self.works.items() if one.is_matched}
        parts = self.matched_again
        broken = {one.id for one in self.breaks}
        if not done and not parts:
            return
        resolve_breaks(
            [
                one
                for one in queries.lock_open_breaks(
                    organization_id=self.organization_id,
                    bank_line_ids=done | {line_id for line_id, _detail_id in parts},
                )
                if one.id not in broken
                and (
                    one.bank_line_id in done or (one.bank_line_id, one.bank_line_detail_id) in parts
                )
            ],
            resolution=Resolution.MATCHED,
            reason="Matched by rule.",
            actor=self.actor,
            now=self.now,
        )
