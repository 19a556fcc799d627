"""Further acts in the engine's machine: entries of several legs, their metadata, exchanges."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import permutations
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from apps.core import context
from apps.core.errors import Refusal, RuleViolation, StateConflict
from apps.core.ids import new_id
from apps.ledger import operations, queries
from apps.ledger.models import FxTransfer
from apps.ledger.operations import EntryRequest, FxRequest
from apps.ledger.rules import Leg, PostEntry
from tests.ledger import wishes
from tests.ledger.factories import ACTOR, committed
from tests.ledger.machine_months import PAIRS
from tests.ledger.naive import Result
from tests.ledger.outcomes import guilty, outcome_of, told_of
from tests.ledger.rows import fingerprints
from tests.ledger.standing import Account
from tests.ledger.wishes import SPECS, drawn

RATES = ("1.08456", "1.08456", "0.9", "0.07")
# Mostly of two currencies.
EXCHANGED = [
    *(
        (a, b)
        for a, b in permutations(range(len(SPECS)), 2)
        if SPECS[a][0][-3:] != SPECS[b][0][-3:]
    ),
    (0, 1),
    (4, 5),
]
QUOTE_SECONDS_MAX, SKEW_SECONDS = 300, 5
# How long ago it was quoted, or how far ahead; the last two are too long ago, and too far ahead.
AGES = (0, 0, 0, 0, 60, -5, 300, 300, 301, -6)


class ActRules:
    """Part of a machine with an organisation, its books, a clock and keys."""

    def ask(self, act, dry, *, code, **asked):
        """
        Ask dry, then under a key, then under it again; say what each answered.

        `code` is of the refusal that all of them have to be, or None.
        """
        asked |= {"organization_id": self.organization, "now": self.core.now}
        before = fingerprints("ledger_", "core_")
        dried = outcome_of(lambda: dry(**asked))
        assert fingerprints("ledger_", "core_") == before
        keyed = {**asked, "idempotency_key": str(next(self.keys)), "actor": ACTOR}
        context.begin()
        answer = outcome_of(lambda: act(**keyed))
        assert not context.current().replayed
        again = outcome_of(lambda: act(**keyed))
        assert context.current().replayed or not isinstance(answer, RuleViolation | StateConflict)
        found = [getattr(one, "code", None) for one in (dried, answer, again)]
        self.agree([code] * 3, found)
        return dried, answer, again

    # --- Entries of several legs ----------------------------------------------------------------

    @rule(wanted=drawn(wishes.legs), terms=drawn(wishes.terms))
    def entry_of_a_client(self, wanted, terms):
        entry = self.entry_of(wanted, terms)
        expected = self.expect_entry(entry)
        dried, answer, again = self.ask(
            operations.post_entry, operations.preview_entry, code=expected.code, entry=entry
        )
        if expected.code is None:
            self.agree(expected, Result.of(dried))
            after = expected.after or {
                id_: self.books._stands(self.books.accounts[id_]) for id_, *_ in entry.legs
            }
            # Nothing happened in between: what stands now is what stood right after.
            self.agree([after] * 2, [told_of(one.balances) for one in (answer, again)])
            assert again.entry_id == answer.entry_id
            self.keep_entries([answer.entry_id], [expected])
        self.compare()

    @rule(wanted=drawn(wishes.legs), terms=drawn(wishes.terms), pair=st.sampled_from(PAIRS))
    def entry_of_two_people(self, wanted, terms, pair):
        """None is forced, and what stands under its reference already is refused, also if alike."""
        entry = self.entry_of(wanted, (*terms[:2], False))
        if pair[0] == pair[1]:
            expected = Result("refused", "two_people_needed")
        else:
            expected = self.expect_entry(entry)
        if expected.status == "replayed":
            expected = Result("refused", "reference_reused")
        answer = outcome_of(
            lambda: committed(operations.adjust)(
                organization_id=self.organization, entry=entry, actor=ACTOR,
                requested_by=pair[0], approved_by=pair[1], reason="Goodwill", now=self.core.now,
            )
        )  # fmt: skip
        self.agree(expected.code, getattr(answer, "code", None))
        if expected.code is None:
            self.keep_entries([answer], [expected])
        self.compare()

    def entry_of(self, wanted, terms) -> EntryRequest:
        when, reference, is_forced = terms
        legs = (Leg(self.ids[place], amount, currency) for place, amount, currency in wanted)
        return EntryRequest(
            legs=tuple(legs), reference=reference, effective_at=self.instant(when), force=is_forced
        )

    def expect_entry(self, entry) -> Result:
        for currency in ("EUR", "USD"):
            if sum(leg.amount_minor for leg in entry.legs if leg.currency == currency):
                return Result("refused", "entry_not_balanced")
        command = PostEntry(
            id=new_id(), legs=entry.legs, currency=entry.legs[0].currency, kind="entry",
            reference=entry.reference, effective_at=entry.effective_at, force=entry.force,
        )  # fmt: skip
        return self.expect([command], atomic=True)[0]

    def instant(self, when: datetime | timedelta | None) -> datetime | None:
        return self.core.now + when if isinstance(when, timedelta) else when

    # --- What is said of an entry later -----------------------------------------------------------

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), metadata=st.sampled_from([{}, {"a": "1"}, {"a": "2", "b": "1"}]))
    def annotate(self, data, metadata):
        entry_id = data.draw(st.sampled_from(sorted(self.entries)[-6:]))
        key = str(next(self.keys))
        for _ in "ab":
            operations.annotate_entry(
                organization_id=self.organization, entry_id=entry_id, metadata=metadata,
                idempotency_key=key, actor=ACTOR, now=self.core.now,
            )  # fmt: skip
        said = self.said.setdefault(entry_id, [])
        said.append(metadata)
        history = queries.list_entry_metadata(
            organization_id=self.organization, entry_id=entry_id, limit=len(said)
        )
        assert [(one.number, one.metadata) for one in reversed(history)] == list(enumerate(said, 1))
        self.compare()

    # --- Exchanges --------------------------------------------------------------------------------

    @rule(
        places=st.sampled_from(EXCHANGED),
        amount=st.sampled_from(wishes.AMOUNTS),
        rate=st.sampled_from(RATES),
        age=st.sampled_from(AGES),
        terms=drawn(wishes.terms),
    )
    def exchange(self, places, amount, rate, age, terms):
        source, target = (self.ids[place] for place in places)
        sold, bought = (SPECS[place][0][-3:] for place in places)
        fx = FxRequest(
            from_account_id=source, to_account_id=target, sold_minor=amount, sold_currency=sold,
            bought_currency=bought, rate=Decimal(rate), source="ecb",
            quoted_at=self.core.now - timedelta(seconds=age), reference=terms[1],
            effective_at=self.instant(terms[0]),
        )  # fmt: skip
        standing = self.exchanged.get(fx.reference) if fx.reference else None
        if standing is not None:
            self.exchange_again(fx, *standing)
            return
        expected = self.expect_exchange(fx)
        refused = guilty(expected)[1] if any(result.code for result in expected) else None
        dried, answer, again = self.ask(
            operations.exchange, operations.preview_exchange, code=refused, fx=fx
        )
        renamed = self.know_liquidity()
        if refused is None:
            assert again == answer
            own = [self.liquidity[liquidity_code(currency)] for currency in (sold, bought)]
            after = [self.books._stands(self.books.accounts[id_]) for id_ in (source, target, *own)]
            for told in (dried, answer):
                # What is opened has an id only as it is opened.
                self.agree(after, list(told_of(told.balances).values()))
            self.keep_exchange(fx, answer.fx_transfer_id, expected, renamed)
        self.compare()

    def exchange_again(self, fx, first, fx_transfer_id) -> None:
        """Under a reference that stands: the same is answered as it is, another one is refused."""
        before = fingerprints("ledger_")
        is_same = replace(fx, effective_at=first.effective_at) == first
        for one, code in ((first, None), (fx, None if is_same else "reference_reused")):
            _, answer, _ = self.ask(
                operations.exchange, operations.preview_exchange, code=code, fx=one
            )
            assert code or answer.fx_transfer_id == fx_transfer_id
        assert fingerprints("ledger_") == before

    @precondition(lambda self: self.exchanges)
    @rule(data=st.data(), at=st.sampled_from(["now", "original"]))
    def reverse_exchange(self, data, at):
        fx_transfer_id = data.draw(st.sampled_from(sorted(self.exchanges)[-3:]))
        entry_ids = self.exchanges[fx_transfer_id]
        expected = self.expect_undone(entry_ids, at)
        # The client asked for one thing: its refusal names no place.
        code = expected[1] if isinstance(expected, tuple) else None
        dried, answer, again = self.ask(
            partial(operations.reverse_fx_transfer, reason="asked for"),
            operations.preview_fx_reversal, code=code, fx_transfer_id=fx_transfer_id, at=at,
        )  # fmt: skip
        if code is None:
            after = {id_: stands for result in expected for id_, stands in result.after.items()}
            for told in (dried, answer, again):
                self.agree(after, told_of(told.balances))
            assert again.entry_ids == answer.entry_ids
            self.reversed |= set(entry_ids)
            self.keep_entries(answer.entry_ids, expected)
        elif isinstance(answer, Refusal):
            assert "index" not in answer.details
        self.compare()

    # --- How ------------------------------------------------------------------------------------

    def expect_exchange(self, fx) -> list[Result]:
        bought_minor = int(fx.rate * fx.sold_minor)
        age = (self.core.now - fx.quoted_at).total_seconds()
        if not -SKEW_SECONDS <= age <= QUOTE_SECONDS_MAX:
            return [Result("refused", "fx_quote_stale")]
        if fx.sold_currency == fx.bought_currency:
            return [Result("refused", "fx_same_currency")]
        if bought_minor == 0:
            return [Result("refused", "fx_amount_too_small")]
        commands = [
            self.half(fx, fx.from_account_id, fx.sold_currency, -fx.sold_minor),
            self.half(fx, fx.to_account_id, fx.bought_currency, bought_minor),
        ]
        return self.expect([replace(commands[0], linked=True), commands[1]], atomic=True)

    def half(self, fx, id_, currency, amount) -> PostEntry:
        """So much comes to an account, or leaves it, and liquidity has the other side of it."""
        code = liquidity_code(currency)
        if code not in self.liquidity:
            self.liquidity[code] = new_id()
            account = Account(self.liquidity[code], currency, credit_normal=True, floor=None)
            self.books.accounts[account.id], self.books.postings[account.id] = account, []
        signed = self.books.accounts[id_].side(amount)
        return PostEntry(
            id=new_id(), legs=(Leg(id_, signed), Leg(self.liquidity[code], -signed)),
            currency=currency, kind="fx", effective_at=fx.effective_at,
        )  # fmt: skip

    def know_liquidity(self) -> dict[UUID, UUID]:
        """Know what was opened by its id, and nothing that was not; say how it was called here."""
        opened = queries.account_ids(organization_id=self.organization, codes=list(self.liquidity))
        renamed = {}
        for code, ours in list(self.liquidity.items()):
            account, postings = self.books.accounts.pop(ours), self.books.postings.pop(ours)
            if code not in opened:
                assert not postings
                del self.liquidity[code]
                continue
            account.id = renamed[ours] = self.liquidity[code] = opened[code]
            self.books.accounts[account.id], self.books.postings[account.id] = account, postings
        return renamed

    def keep_exchange(self, fx, fx_transfer_id, expected, renamed) -> None:
        row = FxTransfer.objects.get(id=fx_transfer_id)
        assert row.bought_minor + row.remainder_minor == fx.rate * fx.sold_minor
        assert 0 <= row.remainder_minor < 1
        self.exchanges[row.id] = (row.sold_entry_id, row.bought_entry_id)
        for id_, result in zip(self.exchanges[row.id], expected, strict=True):
            self.entries[id_] = tuple(
                (renamed.get(line[0], line[0]), *line[1:3]) for line in result.lines
            )
        if fx.reference:
            self.exchanged[fx.reference] = (fx, row.id)


def liquidity_code(currency: str) -> str:
    return f"liquidity:{currency}"
