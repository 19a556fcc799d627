"""Months in the engine's machine: closed and opened again by two people, and when they may be."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import rule

from apps.core import outbox
from apps.core.errors import Refusal
from apps.ledger import operations, queries
from apps.ledger.models import Period, PeriodBalance
from tests.ledger import wishes
from tests.ledger.factories import ACTOR, committed
from tests.ledger.outcomes import outcome_of
from tests.ledger.wishes import drawn
from tests.support import wait_until

MONTHS = {month[0].date(): month for month in (wishes.SEPTEMBER, wishes.OCTOBER, wishes.NOVEMBER)}
# Who asked and who agreed; one who does both is refused.
PAIRS = [("staff:mara", "staff:anton")] * 5 + [("staff:mara", "staff:mara")]

ACTS = st.tuples(
    st.sampled_from(["close", "close", "finish", "call off", "reopen", "reopen"]),
    st.sampled_from([*MONTHS, wishes.OCTOBER[0].date()]),
    st.sampled_from(PAIRS),
    st.booleans(),
)


class Months:
    """How each month stands that somebody asked to close, and how often it was closed."""

    def __init__(self) -> None:
        self.states: dict[date, str] = {}
        self.closings: dict[date, int] = {}

    def last(self) -> date | None:
        """The latest one that takes no entries any more."""
        return max((month for month, state in self.states.items() if state != "open"), default=None)

    def first(self) -> date | None:
        """The first that was ever closed."""
        return min((month for month, times in self.closings.items() if times), default=None)

    def why_not_closed(self, month: date, now: datetime) -> str | None:
        last, first = self.last(), self.first()
        if last is not None and self.states[last] == "closing":
            return "period_closing"
        if last is not None and month <= last:
            return "period_closed_already"
        if now < MONTHS[month][1] + timedelta(hours=1):
            return "period_not_over"
        turn = first if last is None else MONTHS[last][1].date()
        return "period_out_of_order" if turn is not None and turn < month else None

    def why_not_opened(self, month: date) -> str | None:
        last = self.last()
        if last is not None and month < last:
            return "period_out_of_order"
        if month not in self.states:
            return "period_not_found"
        return "period_not_closed" if self.states[month] != "closed" else None

    def closed(self) -> list[tuple[datetime, datetime, str]]:
        """All that lies before the end of the last one is closed with it."""
        last = self.last()
        if last is None:
            return []
        return [(datetime.min.replace(tzinfo=UTC), *MONTHS[last][1:])]


class MonthRules:
    """Part of a machine with an organisation, its books, a clock and keys."""

    @rule(acts=st.lists(st.tuples(ACTS, drawn(wishes.transfer)), min_size=1, max_size=5))
    def of_months(self, acts):
        """Several at once: to open a month again is of use only after it was closed."""
        for (act, month, pair, is_sealed), wish in acts:
            self.act_on_month(act, month, pair, is_sealed=is_sealed)
            # Few others are of that month, and what becomes of one is what its state is for.
            dated = replace(wish, when=MONTHS[month][0] + timedelta(days=20))
            self.run(self.commands([dated]), atomic=False)

    def act_on_month(self, act, month, pair, *, is_sealed):
        closing = [one for one, state in self.months.states.items() if state == "closing"]
        if is_sealed:
            self.seal()
        match act:
            case "close":
                self.close_month(month, pair)
            case "finish" if closing:
                self.finish_closing(closing[0], is_sealed=is_sealed)
            case "call off" if self.months.states:
                states = self.months.states
                self.call_off_closing(month if month in states else min(states))
            case _:
                self.reopen_month(month, pair)
        self.books.closed = self.months.closed()
        self.compare_months()

    def close_month(self, month, pair):
        expected = self.months.why_not_closed(month, self.core.now) or one_person(pair)
        answer = outcome_of(lambda: self.begin_closing(month, pair))
        self.agree(expected, code_of(answer))
        if expected is None:
            self.months.states[month] = "closing"
            self.months.closings.setdefault(month, 0)
            self.see_closing(month)

    def finish_closing(self, month, *, is_sealed):
        """What the job does, in vain as long as what was posted is not sealed."""
        if is_sealed:
            # What others do on this server may hold it up for a moment.
            wait_until(lambda: self.try_to_finish(month) == "closed")
        else:
            self.try_to_finish(month)
        self.see_closing(month)

    def call_off_closing(self, month):
        expected = None if self.months.states[month] == "closing" else "period_not_closed"
        call_off = partial(
            operations.call_off_closing,
            organization_id=self.organization, period_id=self.period(month).id,
            reason="Not yet", idempotency_key=str(next(self.keys)), actor=ACTOR, now=self.core.now,
        )  # fmt: skip
        self.agree([expected] * 2, [code_of(outcome_of(call_off)) for _ in "ab"])
        if expected is None:
            self.months.states[month] = "open"

    def reopen_month(self, month, pair):
        expected = self.months.why_not_opened(month) or one_person(pair)
        answer = outcome_of(lambda: self.reopen(month, pair))
        self.agree(expected, code_of(answer))
        if expected is None:
            self.months.states[month] = "open"

    # --- How ------------------------------------------------------------------------------------

    @committed
    def begin_closing(self, month, pair):
        period = operations.prepare_close(
            organization_id=self.organization, month=month, now=self.core.now
        )
        return operations.begin_closing(
            organization_id=self.organization, period_id=period.id, requested_by=pair[0],
            approved_by=pair[1], reason="It is done", actor=ACTOR, now=self.core.now,
        )  # fmt: skip

    @committed
    def reopen(self, month, pair):
        period = operations.prepare_reopen(organization_id=self.organization, month=month)
        return operations.reopen_period(
            organization_id=self.organization, period_id=period.id, requested_by=pair[0],
            approved_by=pair[1], reason="An invoice came late", actor=ACTOR, now=self.core.now,
        )  # fmt: skip

    def try_to_finish(self, month) -> str:
        return operations.finish_closing(
            organization_id=self.organization, period_id=self.period(month).id, now=self.core.now
        ).state

    def period(self, month) -> Period:
        return Period.objects.get(organization_id=self.organization, month=month)

    def seal(self) -> None:
        outbox.relay_organization(organization_id=self.organization)
        while operations.seal_entries(organization_id=self.organization, now=self.core.now):
            pass

    def see_closing(self, month) -> None:
        """One that is closing is closed once, when it may be, and then its sums were stored."""
        if self.period(month).state != "closed":
            return
        until = MONTHS[month][1]
        assert not queries.count_unsealed(organization_id=self.organization, until=until)
        self.months.states[month] = "closed"
        self.months.closings[month] += 1
        lines = PeriodBalance.objects.filter(
            organization_id=self.organization, month=month, closing=self.months.closings[month]
        )
        stored = {
            line.account_id: (line.opening_minor, line.debits_minor, line.credits_minor)
            for line in lines
        }
        plain = {id_: self.movement(id_, month) for id_ in self.books.accounts}
        self.agree(
            {id_: line for id_, line in plain.items() if any(line)},
            {id_: line for id_, line in stored.items() if any(line)},
        )

    def movement(self, id_, month) -> tuple[int, int, int]:
        since, until, _ = MONTHS[month]
        told = self.books.postings[id_]
        within = [amount for at, amount in told if since <= at < until]
        return (
            sum(amount for at, amount in told if at < since),
            sum(amount for amount in within if amount > 0),
            -sum(amount for amount in within if amount < 0),
        )

    def compare_months(self) -> None:
        rows = Period.objects.filter(organization_id=self.organization)
        assert {row.month: (row.state, row.closings) for row in rows} == {
            month: (state, self.months.closings[month])
            for month, state in self.months.states.items()
        }


def one_person(pair) -> str | None:
    return "two_people_needed" if pair[0] == pair[1] else None


def code_of(answer) -> str | None:
    return answer.code if isinstance(answer, Refusal) else None
