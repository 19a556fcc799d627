"""What is written beside the postings of one transaction: matches, breaks, what lines became."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.banking import operations as banking
from apps.banking.models import BankAccount, BankLine
from apps.banking.operations import LineOutcome as LineRecord
from apps.banking.states import LineState
from apps.core.actors import Actor
from apps.core.copying import copy_rows
from apps.core.ids import new_id
from apps.payouts.queries import AttemptView
from apps.reconciliation import queries
from apps.reconciliation.models import Break, Match, MatchLeg
from apps.reconciliation.operations._breaks import open_breaks, resolve_breaks
from apps.reconciliation.rules import Unit
from apps.reconciliation.states import BreakKind, BreakState, Resolution, Rule, TargetKind


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
class Findings:
    """What the lines of one transaction were matched with, and what broke."""

    account: BankAccount
    actor: Actor = field(kw_only=True)
    now: datetime = field(kw_only=True)
    works: dict[UUID, LineWork] = field(default_factory=dict)
    noted: set[UUID] = field(default_factory=set)
    matched_again: set[tuple[UUID, UUID | None]] = field(default_factory=set)
    _matches: list[Match] = field(default_factory=list)
    _legs: list[MatchLeg] = field(default_factory=list)
    _breaks: list[Break] = field(default_factory=list)

    @property
    def matched(self) -> int:
        return sum(one.is_matched for one in self.works.values())

    @property
    def in_suspense(self) -> int:
        return len(self.works) - self.matched

    def begin(self, line: BankLine) -> None:
        """Take a line in: matched, until something of it is not."""
        self.works[line.id] = LineWork(line=line)

    def match_payout(
        self,
        unit: Unit,
        rule: Rule,
        *,
        attempt_ids: Sequence[UUID],
        attempt: AttemptView | None,
    ) -> None:
        """Match a unit with the attempts that took it; `attempt` is the one that it names."""
        is_return = rule is Rule.PAYOUT_RETURN
        kind = TargetKind.PAYOUT_RETURN if is_return else TargetKind.PAYOUT_ATTEMPT
        self._match(unit, rule, kind, attempt_ids)
        if is_return:
            self._note_return(unit, attempt)

    def match_payment(self, unit: Unit, payment_id: UUID) -> None:
        """Match a unit with the payment that it became."""
        self._match(unit, Rule.PAY_IN, TargetKind.PAYMENT, [payment_id])

    def note(self, unit: Unit, kind: BreakKind, *, reason: str = "") -> None:
        """Break a unit: its line stays in suspense for this reason."""
        self.works[unit.line_id].fail(reason or kind)
        self.noted.add(unit.id)
        self._breaks.append(self._break(unit, kind))

    def _match(self, unit: Unit, rule: Rule, kind: TargetKind, target_ids: Sequence[UUID]) -> None:
        match = Match(
            id=new_id(),
            organization_id=self.account.organization_id,
            bank_line_id=unit.line_id,
            bank_line_detail_id=unit.detail_id,
            rule=rule,
            amount_minor=unit.amount_minor,
            currency=unit.currency,
            created_at=self.now,
        )
        self._matches.append(match)
        self._legs += [
            MatchLeg(
                id=new_id(),
                organization_id=self.account.organization_id,
                match_id=match.id,
                target_kind=kind,
                target_id=target_id,
            )
            for target_id in target_ids
        ]

    def _note_return(self, unit: Unit, attempt: AttemptView | None) -> None:
        """A payout that was settled came back: shown as a break that its own posting closes."""
        self._breaks.append(
            self._break(
                unit,
                BreakKind.RETURNED_AFTER_MATCH,
                state=BreakState.RESOLVED,
                resolution=Resolution.EXPLAINED,
                reason="Closed by its own posting.",
                resolved_at=self.now,
            )
        )
        if attempt is not None and unit.amount_minor < attempt.amount_minor:
            self._breaks.append(self._break(unit, BreakKind.FEE_KEPT))

    def _break(self, unit: Unit, kind: BreakKind, **more: Any) -> Break:  # noqa: ANN401  (further columns)
        return Break(
            id=new_id(),
            organization_id=self.account.organization_id,
            kind=kind,
            bank_account_id=self.account.id,
            bank_line_id=unit.line_id,
            bank_line_detail_id=unit.detail_id,
            amount_minor=unit.amount_minor,
            currency=unit.currency,
            first_seen_at=self.now,
            **more,
        )

    def record(self, *, turn: int) -> None:
        """Write matches, breaks and what became of the lines, beside their postings."""
        if not self.works:
            return
        copy_rows(self._matches)
        copy_rows(self._legs)
        open_breaks(self._breaks, actor=self.actor, now=self.now)
        banking.record_line_outcomes(
            organization_id=self.account.organization_id,
            outcomes=[
                LineRecord(
                    line_id=line_id,
                    state=LineState.MATCHED if one.is_matched else LineState.IN_SUSPENSE,
                    entry_id=one.entry_id,
                    reason="" if one.is_matched else one.reason,
                )
                for line_id, one in self.works.items()
            ],
            turn=turn,
        )
        self._resolve()

    def _resolve(self) -> None:
        done = {line_id for line_id, one in self.works.items() if one.is_matched}
        parts = self.matched_again
        broken = {one.id for one in self._breaks}
        if not done and not parts:
            return
        resolve_breaks(
            [
                one
                for one in queries.lock_open_breaks(
                    organization_id=self.account.organization_id,
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
