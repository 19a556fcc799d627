"""What is plain, as Postgres says it and as the engine does; and the function as it stands."""

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import apps.ledger
from apps.core.ids import new_id
from apps.ledger.rules import (
    COUNTER_MAX,
    BalanceState,
    Command,
    State,
    Transfer,
    apply,
)
from tests.core.test_tenancy_log import strays
from tests.ledger.factories import (
    NOW,
)
from tests.ledger.threads import sql

pytestmark = pytest.mark.django_db(transaction=True)

SQL = Path(apps.ledger.__file__).parent / "sql" / "post_transfer.sql"

money = st.integers(0, 30)


@st.composite
def accounts(draw, id_: UUID) -> BalanceState:
    """An account as it may stand: within its floor, often near it, or at the end of counting."""
    credit_normal = draw(st.booleans())
    near = draw(st.sampled_from([0, COUNTER_MAX - 40]))
    counters = {
        "posted_debits": near + draw(money), "posted_credits": near + draw(money),
        "pending_debits": draw(money), "pending_credits": draw(money),
    }  # fmt: skip
    state = BalanceState(
        id_, draw(st.sampled_from(["EUR", "EUR", "EUR", "USD"])), credit_normal=credit_normal,
        status=draw(st.sampled_from(["open", "open", "open", "frozen", "closed"])),
        internal=draw(st.sampled_from([False, False, False, True])),
        monitored=draw(st.sampled_from([False, False, False, True])),
        latest_effective_at=draw(st.sampled_from(
            [None, NOW - timedelta(seconds=1), NOW, NOW + timedelta(microseconds=1)]
        )),
        **counters,
    )  # fmt: skip
    state.min_available_minor = draw(
        st.none() | st.integers(0, 30).map(lambda below: state.available - below)
    )
    return state


def takes(state: BalanceState, *, is_debited: bool, amount: int) -> bool:
    names = sql(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'ledger_balance'::regclass"
        " AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    values = [new_id() if name == "organization_id" else getattr(state, name) for (name,) in names]
    row = ", ".join(["%s"] * len(values))
    [[found]] = sql(
        f"SELECT kassa_takes_transfer(ROW({row})::ledger_balance, %s, %s, 'EUR', %s)",
        *values, is_debited, amount, NOW,
    )  # fmt: skip
    return found


class TestWhatIsPlain:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(debit=accounts(UUID(int=1)), credit=accounts(UUID(int=2)), amount=st.integers(1, 40))
    def test_is_what_the_engine_posts_without_more_ado(self, debit, credit, amount):
        is_plain = takes(debit, is_debited=True, amount=amount) and takes(
            credit, is_debited=False, amount=amount
        )
        command: Command = Transfer(new_id(), debit.id, credit.id, amount, "EUR")
        state = State({debit.id: debit, credit.id: credit}, now=NOW, reach_internal=False)

        _, [outcome] = apply(state, [command])

        has_more = any(
            one.monitored or (one.latest_effective_at or NOW) > NOW for one in (debit, credit)
        )
        assert is_plain == (outcome.status == "posted" and not has_more)


class TestTheFunction:
    def test_of_the_database_is_the_one_that_an_auditor_reads(self):
        """The migrations' own copies, as they have come to be, are the file."""
        text = SQL.read_text()
        bodies = sql(
            "SELECT prosrc FROM pg_proc"
            " WHERE proname IN ('kassa_takes_transfer', 'kassa_post_transfer')"
        )

        assert len(bodies) == 2
        for (body,) in bodies:
            lines = [line.strip() for line in body.strip().splitlines()]
            assert "\n".join(lines) in "\n".join(line.strip() for line in text.splitlines())

    def test_counts_as_far_as_the_engine(self):
        assert f"<= {COUNTER_MAX}\n" in SQL.read_text()

    def test_names_whose_rows_it_locks_and_changes(self):
        _, body = SQL.read_text().split("BEGIN\n", 1)

        found = [one for one in body.split(";\n") if "ledger_balance" in one]
        assert len(found) == 3
        assert [one for one in found if strays(one)] == []
