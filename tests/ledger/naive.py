"""
The ledger's rules said once more, as plainly as can be, to compare the engine with.

They are asked of books that keep nothing but what happened (`standing`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from apps.ledger.rules import (
    CaptureHold,
    Command,
    ExpireHold,
    HoldState,
    Outcome,
    PlaceHold,
    PostEntry,
    Transfer,
    VoidHold,
)
from tests.ledger.standing import SKEW, Account, Standing


class No(Exception):
    """A command is refused; the text is the code."""


@dataclass
class Result:
    """What became of a command, in the words that `of` finds for the engine's outcome."""

    status: str
    code: str | None = None
    lines: tuple = ()
    after: dict[UUID, tuple[int, int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, outcome: Outcome) -> "Result":
        return cls(
            outcome.status,
            outcome.refusal.code if outcome.refusal is not None else None,
            tuple(tuple(line) for line in outcome.lines),
            {
                after.id: (after.version, after.posted, after.available)
                for after in outcome.balances
            },
        )


class Books(Standing):
    """Decides over what stands, and writes what was decided."""

    def apply(self, commands: Sequence[Command], now: datetime) -> list[Result]:
        self.now = now
        results: list[Result] = []
        chain: list[Command] = []
        for command in commands:
            chain.append(command)
            if not command.linked:
                results += self._chain(chain)
                chain = []
        return results + self._chain(chain)

    def _chain(self, chain: Sequence[Command]) -> list[Result]:
        before = self.copy() if chain and chain[0].linked else None
        results = []
        for place, command in enumerate(chain, 1):
            try:
                results.append(self._one(command))
                if place == len(chain):
                    self._refuse_open(command, results)
            except No as no:
                if before is not None:
                    self.__dict__.update(before.__dict__)
                results = [Result("refused", "linked_command_failed") for _ in chain]
                results[place - 1] = Result("refused", str(no))
                return results
        return results

    @staticmethod
    def _refuse_open(last: Command, results: Sequence[Result]) -> None:
        if last.linked and any(result.status != "replayed" for result in results):
            raise No("linked_chain_open")

    def _one(self, command: Command) -> Result:
        match command:
            case Transfer():
                return self._transfer(command)
            case PostEntry():
                return self._entry(command)
            case PlaceHold():
                return self._place(command)
            case CaptureHold():
                return self._capture(command)
            case VoidHold():
                return self._void(command)
            case ExpireHold():
                hold = self._open(command.hold_id)
                if hold.expires_at is None or hold.expires_at > self.now:
                    raise No("hold_not_expired")
                return self._end(hold, "expired")
        raise AssertionError(command)

    def apply_together(self, entries: Sequence[PostEntry], now: datetime) -> list[Result]:
        """One act, all or none; each account is looked at before it and after all of it."""
        self.now = now
        before = self.copy()
        seen = [self.latest(self.accounts[leg.account_id]) for entry in entries
                for leg in entry.legs if leg.account_id in self.accounts]  # fmt: skip
        results = []
        for place, entry in enumerate(entries):
            try:
                results.append(self._part(entry, seen))
            except No as no:
                self.__dict__.update(before.__dict__)
                results = [Result("refused", "linked_command_failed") for _ in entries]
                results[place] = Result("refused", str(no))
                return results
        try:
            for id_ in dict.fromkeys(line[0] for result in results for line in result.lines):
                self._check_net(before, self.accounts[id_])
        except No as no:
            self.__dict__.update(before.__dict__)
            return [Result("refused", str(no))] * len(entries)
        return results

    def _part(self, entry: PostEntry, seen: Sequence[datetime | None]) -> Result:
        legs = tuple((*leg[:2], leg.currency or entry.currency) for leg in entry.legs)
        known = self.entries.get(entry.reference or "")
        if known is not None:
            return self._replay(known, legs)
        at = self._effective(entry.effective_at, self._usable(legs), seen)
        lines = self._write(legs, at)
        if entry.reference:
            self.entries[entry.reference] = legs
        return Result("posted", lines=lines, after=self._after(legs))

    def _check_net(self, before: "Books", account: Account) -> None:
        if account.floor is None:
            return
        if (
            before.posted(account) > self.posted(account)
            and self.available(account) < account.floor
        ):
            raise No("insufficient_funds")
        for at in {self.now, *(when for when, _ in self.postings[account.id])}:
            left, pending = self.posted(account, at), self.pending_out(account)
            if left < before.posted(account, at) and (
                left - (pending if at >= self.now else 0) < account.floor
            ):
                raise No("later_balance_below_floor")

    def _void(self, command: VoidHold) -> Result:
        hold = self._open(command.hold_id)
        if hold.expires_at is not None and hold.expires_at <= self.now:
            raise No("hold_expired")
        return self._end(hold, "voided")

    def _transfer(self, command: Transfer) -> Result:
        amount = command.amount_minor
        known = self.entries.get(command.reference or "")
        if known is not None:
            if command.up_to:
                amount = min(amount, abs(known[0][1]))
            return self._replay(known, self._legs(command, amount))
        balances = self._usable(self._legs(command, amount))
        at = self._effective(command.effective_at, balances)
        if command.up_to:
            amount = self._most(command, balances, at)
        legs = self._legs(command, amount)
        # Both accounts are asked for funds before either is for its past.
        self._check(legs, None)
        return self._post(command.reference, legs, at, force=command.force)

    @staticmethod
    def _legs(command: Transfer | PlaceHold, amount: int) -> tuple:
        return (
            (command.debit_account_id, amount, command.currency),
            (command.credit_account_id, -amount, command.currency),
        )

    def _most(self, command: Transfer, balances: Sequence[Account], at: datetime) -> int:
        today = most = command.amount_minor
        for account, sign in zip(balances, (1, -1), strict=True):
            if account.floor is not None and account.side(sign) < 0:
                today = min(today, self.available(account) - account.floor)
                since = self._since(at, force=command.force)
                low = self.lowest(account, since, pending=self.pending_out(account))
                most = min(most, low - account.floor)
        if today <= 0:
            return command.amount_minor
        # All that today's balance lets go is what a later one refuses, if that leaves nothing.
        return min(today, most) if most > 0 else today

    def _entry(self, command: PostEntry) -> Result:
        legs = tuple(
            (leg.account_id, leg.amount_minor, leg.currency or command.currency)
            for leg in command.legs
        )
        known = self.entries.get(command.reference or "")
        if known is not None:
            return self._replay(known, legs)
        at = self._effective(command.effective_at, self._usable(legs))
        return self._post(command.reference, legs, at, force=command.force)

    def _place(self, command: PlaceHold) -> Result:
        legs = self._legs(command, command.amount_minor)
        for hold in self.holds.values():
            is_same = command.reference and hold.reference == command.reference
            if is_same and self.is_named(hold):
                asked = (*legs, command.multi_capture, command.expires_at)
                amount = hold.amount_minor
                stands = (
                    (hold.debit_account_id, amount, hold.currency),
                    (hold.credit_account_id, -amount, hold.currency),
                    hold.multi_capture,
                    hold.expires_at,
                )
                if asked != stands:
                    raise No("reference_reused")
                return Result("replayed")
        balances = self._usable(legs)
        self._check(legs, self._effective(None, balances))
        self.holds[command.id] = HoldState(
            id=command.id,
            debit_account_id=command.debit_account_id,
            credit_account_id=command.credit_account_id,
            currency=command.currency,
            amount_minor=command.amount_minor,
            expires_at=command.expires_at,
            reference=command.reference,
            multi_capture=command.multi_capture,
        )
        return Result("held", after=self._after(legs))

    def _capture(self, command: CaptureHold) -> Result:
        hold = self.holds.get(command.hold_id)
        known = self.entries.get(command.reference or "")
        if hold is None:
            raise No("hold_not_found")
        if known is not None:
            most = min(hold.amount_minor, abs(known[0][1]))
            amount = most if command.amount_minor is None else command.amount_minor
            return self._replay(known, self._hold_legs(hold, amount))
        self._open(hold.id)
        if hold.expires_at is not None and hold.expires_at <= self.now:
            raise No("hold_expired")
        left = hold.amount_minor - hold.captured_minor
        amount = left if command.amount_minor is None else command.amount_minor
        if amount > left:
            raise No("capture_exceeds_hold")
        legs = self._hold_legs(hold, amount)
        at = self._effective(command.effective_at, [self.accounts[id_] for id_, *_ in legs])
        ends = not hold.multi_capture or amount in {0, left}
        if amount and command.effective_at is not None:
            self._check_capture(legs, at, freed=left if ends else amount)
        hold.captured_minor += amount
        if ends:
            hold.status = "captured"
        lines = self._write(legs, at) if amount else ()
        if command.reference and amount:
            self.entries[command.reference] = legs
        return Result("posted", lines=lines, after=self._after(legs))

    def _check_capture(self, legs: tuple, at: datetime, *, freed: int) -> None:
        for id_, signed, _ in legs:
            account = self.accounts[id_]
            if account.side(signed) < 0:
                pending = self.pending_out(account) - freed
                self._check_history(account, abs(signed), at, pending)

    def _open(self, hold_id: UUID) -> HoldState:
        hold = self.holds.get(hold_id)
        if hold is None:
            raise No("hold_not_found")
        if hold.status == "expired":
            raise No("hold_expired")
        if hold.status != "open":
            raise No(f"hold_already_{hold.status}")
        return hold

    def _end(self, hold: HoldState, status: str) -> Result:
        hold.status = status
        return Result(status, after=self._after(self._hold_legs(hold, 1)))

    @staticmethod
    def _hold_legs(hold: HoldState, amount: int) -> tuple:
        return (
            (hold.debit_account_id, amount, hold.currency),
            (hold.credit_account_id, -amount, hold.currency),
        )

    @staticmethod
    def _replay(known: tuple, legs: tuple) -> Result:
        if known != legs:
            raise No("reference_reused")
        return Result("replayed")

    def _usable(self, legs: tuple) -> list[Account]:
        found = []
        for id_, _, currency in legs:
            account = self.accounts.get(id_)
            if account is None:
                raise No("unknown_ledger_account")
            if account.status != "open":
                raise No(f"ledger_account_{account.status}")
            if account.currency != currency:
                raise No("currency_mismatch")
            if account in found:
                raise No("same_ledger_account")
            found.append(account)
        return found

    def _effective(
        self,
        asked: datetime | None,
        balances: Sequence[Account],
        beside: Sequence[datetime | None] = (),
    ) -> datetime:
        at = asked or self.now
        if asked is None:
            seen = [*(self.latest(account) for account in balances), *beside]
            at = max([at, *(when for when in seen if when and when <= self.now + SKEW)])
        if any(since <= at < until for since, until, _ in self.closed):
            raise No("period_closed")
        return at

    def _post(self, reference: str | None, legs: tuple, at: datetime, *, force: bool) -> Result:
        self._check(legs, self._since(at, force=force))
        lines = self._write(legs, at)
        if reference:
            self.entries[reference] = legs
        return Result("posted", lines=lines, after=self._after(legs))

    def _since(self, at: datetime, *, force: bool) -> datetime:
        """Forced, only the past is let go."""
        return max(at, self.now) if force else at

    def _check(self, legs: tuple, since: datetime | None) -> None:
        """What leaves is covered; and by each balance from then on, if it is said since when."""
        leaving = [
            (self.accounts[id_], abs(amount))
            for id_, amount, _ in legs
            if self.accounts[id_].side(amount) < 0 and self.accounts[id_].floor is not None
        ]
        for account, amount in leaving:
            if self.available(account) - amount < account.floor:
                raise No("insufficient_funds")
            if since is not None:
                self._check_history(account, amount, since, self.pending_out(account))

    def _check_history(self, account: Account, amount: int, at: datetime, pending: int) -> None:
        if account.floor is None:
            return
        if self.lowest(account, at, pending=pending) - amount < account.floor:
            raise No("later_balance_below_floor")

    def _write(self, legs: tuple, at: datetime) -> tuple:
        for id_, amount, _ in legs:
            self.postings[id_].append((at, amount))
        return tuple(
            (id_, amount, currency, *self._stands(self.accounts[id_]))
            for id_, amount, currency in legs
        )

    def _stands(self, account: Account) -> tuple[int, int, int]:
        return len(self.postings[account.id]), self.posted(account), self.available(account)

    def _after(self, legs: tuple) -> dict[UUID, tuple[int, int, int]]:
        return {id_: self._stands(self.accounts[id_]) for id_, *_ in legs}
