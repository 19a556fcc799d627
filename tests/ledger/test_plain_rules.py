"""What is plain, as Postgres says it and as the engine does; and the functions as they stand."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import apps.ledger
from apps.core.ids import new_id
from apps.ledger.rules import (
    CLOCK_SKEW,
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
    create_organization,
    open_account,
)
from tests.ledger.threads import sql
from tests.support import past_the_guards

pytestmark = pytest.mark.django_db(transaction=True)

FILES = sorted((Path(apps.ledger.__file__).parent / "sql").glob("post_transfer*.sql"))

money = st.integers(0, 30)


@st.composite
def accounts(draw, id_: UUID, *, usual: int = 3) -> BalanceState:
    """
    An account as it may stand: within its floor, often near it, or at the end of counting.

    In each way in which it may be odd, it is so once for every `usual` times that it is not.
    """
    credit_normal = draw(st.booleans())
    near = draw(st.sampled_from([0, COUNTER_MAX - 40]))
    counters = {
        "posted_debits": near + draw(money), "posted_credits": near + draw(money),
        "pending_debits": draw(money), "pending_credits": draw(money),
    }  # fmt: skip
    state = BalanceState(
        id_, draw(st.sampled_from(["EUR"] * usual + ["USD"])), credit_normal=credit_normal,
        status=draw(st.sampled_from(["open"] * usual + ["frozen", "closed"])),
        internal=draw(st.sampled_from([False] * usual + [True])),
        monitored=draw(st.sampled_from([False] * usual + [True])),
        latest_effective_at=draw(st.sampled_from(
            [None, NOW - timedelta(seconds=1), NOW] * usual
            + [NOW + timedelta(microseconds=1), NOW + CLOCK_SKEW + timedelta(microseconds=1)]
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
        f"SELECT kassa_takes_transfer(ROW({row})::ledger_balance, %s, %s, %s, 'EUR', %s)",
        *values, is_debited, amount, amount, NOW,
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


class TestASeries:
    """Of several in a row each finds what those before it have left."""

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        states=st.tuples(*(accounts(UUID(int=n), usual=20) for n in range(3))),
        asked=st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 15)),
            min_size=1, max_size=6,
        ),
    )  # fmt: skip
    def test_is_plain_where_the_engine_posts_each_of_it_without_more_ado(
        self, organization, states, asked
    ):
        owner, ids = organization
        named = {one for debit, credit, _ in asked for one in (debit, credit)}
        balances = {ids[n]: replace(state, id=ids[n]) for n, state in enumerate(states)}
        set_balances(balances.values())
        commands: list[Command] = [
            Transfer(new_id(), ids[debit], ids[credit], amount, "EUR")
            for debit, credit, amount in asked
        ]

        found = sql(
            "SELECT account, amount, currency, version, posted, available, is_taken"
            " FROM kassa_lines_of_transfers(%s, %s, %s::uuid[], %s::uuid[], %s::bigint[],"
            " %s::text[]) ORDER BY transfer, number",
            owner, NOW + CLOCK_SKEW, [ids[debit] for debit, _, _ in asked],
            [ids[credit] for _, credit, _ in asked], [amount for *_, amount in asked],
            ["EUR"] * len(asked),
        )  # fmt: skip
        _, outcomes = apply(State(balances, now=NOW, reach_internal=False), commands)

        # A series happens at the latest that its accounts have seen, if clocks may differ so much.
        has_more = any(
            one.monitored or (one.latest_effective_at or NOW) > NOW + CLOCK_SKEW
            for one in (states[n] for n in named)
        )
        are_posted = all(one.status == "posted" for one in outcomes)
        are_taken = len(found) == 2 * len(asked) and all(taken for *_, taken in found)
        assert are_taken == (are_posted and not has_more)
        if are_taken:
            lines = [tuple(line) for outcome in outcomes for line in outcome.lines]
            assert [tuple(line) for *line, _ in found] == lines

    def test_has_no_line_on_an_account_that_is_somebody_elses(self, organization):
        owner, [mine, *_] = organization
        theirs = open_account(create_organization("Southwind"), "wallets:zoe:EUR")

        found = sql(
            "SELECT account FROM kassa_lines_of_transfers(%s, %s, %s::uuid[], %s::uuid[],"
            " '{1}', '{EUR}')",
            owner, NOW, [theirs], [mine],
        )  # fmt: skip

        assert found == [(mine,)]


@pytest.fixture
def organization():
    owner = create_organization()
    return owner, sorted(open_account(owner, f"wallets:{name}:EUR") for name in "abc")


def set_balances(balances: Iterable[BalanceState]) -> None:
    """Have accounts stand so, however they would come to it."""
    names = [
        "currency", "credit_normal", "status", "min_available_minor", "internal", "posted_debits",
        "posted_credits", "pending_debits", "pending_credits", "latest_effective_at", "monitored",
    ]  # fmt: skip

    def change() -> None:
        for one in balances:
            sql(
                f"UPDATE ledger_balance SET {', '.join(f'{name} = %s' for name in names)}"
                " WHERE id = %s",
                *(getattr(one, name) for name in names), one.id,
            )  # fmt: skip

    past_the_guards(change)


class TestTheFunctions:
    def test_of_the_database_are_those_that_an_auditor_reads(self):
        """The migrations' own copies, as they have come to be, are the files."""
        text = "\n".join(line.strip() for path in FILES for line in path.read_text().splitlines())
        bodies = sql(
            "SELECT prosrc FROM pg_proc WHERE proname IN ('kassa_takes_transfer',"
            " 'kassa_try_transfer', 'kassa_post_transfers_apart',"
            " 'kassa_lines_of_transfers', 'kassa_post_transfers')"
        )

        assert len(bodies) == 5
        for (body,) in bodies:
            assert "\n".join(line.strip() for line in body.strip().splitlines()) in text

    def test_count_as_far_as_the_engine(self):
        assert f"<= {COUNTER_MAX}\n" in FILES[0].read_text()

    def test_take_clocks_to_differ_as_far_as_the_engine_does(self):
        assert f"at + interval '{CLOCK_SKEW.seconds} seconds'" in FILES[1].read_text()

    def test_are_what_they_are_whoever_calls_them(self):
        settings = sql(
            "SELECT proname, proconfig FROM pg_proc"
            " WHERE proname IN ('kassa_try_transfer', 'kassa_post_transfers')"
        )

        assert {name: set(config) for name, config in settings} == {
            "kassa_try_transfer": {"search_path=public, pg_temp", "lock_timeout=5ms"},
            "kassa_post_transfers": {
                "search_path=public, pg_temp",
                "lock_timeout=50ms",
                "plan_cache_mode=force_generic_plan",
            },
        }

    def test_lock_keys_and_balances_in_the_order_of_all_posters(self):
        """Written, as the index that finds them has them in this order by chance."""
        text = FILES[1].read_text()

        assert text.count('ORDER BY k.key COLLATE "C"\n        ON CONFLICT') == 1
        assert text.count("ORDER BY b.id FOR NO KEY UPDATE") == text.count("FOR NO KEY UPDATE") == 1

    @pytest.mark.parametrize(("path", "count"), list(zip(FILES, (4, 2), strict=True)))
    def test_name_whose_rows_they_lock_and_change(self, path, count):
        _, body = path.read_text().split("BEGIN\n", 1)

        found = [one for one in body.split(";\n") if "ledger_balance" in one]
        assert len(found) == count
        assert [one for one in found if strays(one)] == []
