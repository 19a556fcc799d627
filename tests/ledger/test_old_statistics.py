"""Postgres takes every organization for small: nothing reads all of a large one's (ADR 0160)."""

import contextlib
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import batched

import pytest
from django.db import connection

from apps.core import outbox, planner, statements
from apps.core.models import IdempotencyKey
from apps.ledger import operations
from apps.ledger.errors import InsufficientFunds
from apps.ledger.models import JournalEntry, LedgerAccount
from apps.ledger.operations import AccountSpec, TransferRequest
from tests.ledger.factories import (
    ACTOR,
    NOW,
    committed,
    create_organization,
    fund,
    open_account,
    post_transfer,
)
from tests.ledger.histories import Move, write_history
from tests.ledger.threads import Asking, sql
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

TABLES = ("core_idempotency_key", "ledger_journal_entry", "ledger_posting", "ledger_balance")
FEW = 200
ON_A_PAGE = 60
GROWN = 4_000
# To read a tenth of four thousand keys costs about as much on paper as 64 looks into their index.
KEYS = 4 * GROWN
ACCOUNTS = 200
TOGETHER = 64
HOURS = 2_000


@pytest.fixture(params=["alike", "since"])
def books(request):
    """
    A large organization: `alike`, where ANALYZE has counted that most have two rows each, or that
    came `since`, when ANALYZE had been by.
    """
    # Autovacuum would count anew, in the middle of a test, and then these are not old.
    for table in TABLES:
        sql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        # One that earlier tests left large costs more than to read all of a table that is small.
        sql(f"VACUUM FULL {table}")
    if request.param == "since":
        _little_books()
        analyze()
        for table in TABLES:
            # Nor do rows of earlier tests, while another database still sees them, make it sparse.
            sql(
                "SELECT pg_restore_relation_stats('schemaname', 'public', 'relname', %s::text,"
                " 'relpages', 10, 'reltuples', %s::real)",
                table,
                10 * ON_A_PAGE,
            )
    grown = _grown_books()
    if request.param == "alike":
        analyze()
        _forget_who_is_large()
    # What this session planned for a batch of thousands is kept until ANALYZE comes by.
    connection.close()
    yield grown
    for table in TABLES:
        sql(f"ALTER TABLE {table} RESET (autovacuum_enabled)")


def analyze():
    for table in TABLES:
        sql(f"ANALYZE {table}")


def _forget_who_is_large():
    """As for a statement that is prepared for anybody."""
    for table in TABLES:
        sql("SELECT pg_clear_attribute_stats('public', %s, 'organization_id', false)", table)
        sql(
            "SELECT pg_restore_attribute_stats('schemaname', 'public', 'relname', relname::text,"
            " 'attname', attname::text, 'inherited', false, 'version', 180000,"
            " 'n_distinct', coalesce(substring(attoptions[1], 'n_distinct=(.*)'), '-0.5')::real,"
            " 'null_frac', 0::real, 'avg_width', 16)"
            " FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
            " WHERE relname = %s AND attname = 'organization_id'",
            table,
        )


def _little_books():
    """Another organization, with a few accounts and transfers: all that ANALYZE knows of."""
    organization = create_organization()
    debit, *credits_ = (
        open_account(organization, f"wallets:{number}:EUR") for number in range(FEW)
    )
    fund(organization, debit, 1_000)
    for number, credit in enumerate(credits_):
        post_transfer(organization, debit, credit, 1, key=f"few-{number}", reference=f"f-{number}")


def _grown_books():
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR")
    bob = open_account(organization, "wallets:bob:EUR")
    fund(organization, ann, 1_000_000)
    grow(organization)
    return organization, ann, bob


def grow(organization):
    """Let it have many keys, entries and postings, of two hundred accounts."""
    opened = committed(operations.open_accounts)(
        organization_id=organization,
        accounts=[
            AccountSpec(f"wallets:{side}_{number}:EUR", "liability", "EUR", internal=False)
            for number in range(ACCOUNTS // 2)
            for side in "ab"
        ],
        now=NOW,
    )
    pairs = list(batched(opened.values(), 2))
    operations.post_transfers(
        organization_id=organization,
        transfers=[
            TransferRequest(
                debit_account_id=pairs[number % len(pairs)][0],
                credit_account_id=pairs[number % len(pairs)][1],
                amount_minor=1,
                currency="EUR",
                reference=f"r-{number}",
            )
            for number in range(GROWN)
        ],
        mode="atomic",
        idempotency_key="grown",
        actor=ACTOR,
        now=NOW,
    )
    sql(
        "INSERT INTO core_idempotency_key (organization_id, key, operation, fingerprint,"
        " prefix, resource_id, created_at)"
        " SELECT organization_id, 'more-' || number, operation, fingerprint, prefix,"
        " gen_random_uuid(), created_at"
        " FROM core_idempotency_key, generate_series(1, %s) AS number"
        " WHERE organization_id = %s AND key = 'grown'",
        KEYS,
        organization,
    )
    assert IdempotencyKey.objects.filter(organization_id=organization).count() > KEYS
    assert JournalEntry.objects.filter(organization_id=organization).count() > GROWN


def rows_read(act) -> dict[str, int]:
    """How many rows of each table were read for an act, by whoever's connection it was."""
    before = _read_so_far()
    act()
    return {table: count - before[table] for table, count in _read_so_far().items()}


def _read_so_far() -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT relname, seq_tup_read + coalesce(idx_tup_fetch, 0)"
            " FROM pg_stat_user_tables WHERE relname = ANY(%s)",
            [list(TABLES)],
        )
        return dict(cursor.fetchall())


def assert_few(read: dict[str, int], most: int):
    assert {table: count for table, count in read.items() if count > most} == {}


def ask(organization, debit, credit, *, amount=1, key="k", **more):
    """Ask for transfers as the web server's lane does, in one transaction; return what became."""
    asked = [
        operations.ask_transfer(
            transfer=TransferRequest(
                debit_account_id=debit, credit_account_id=credit, amount_minor=amount,
                currency="EUR", **{name: value(number) for name, value in more.items()},
            ),
            idempotency_key=f"{key}-{number}",
            actor=ACTOR,
            now=NOW,
        )
        for number in range(TOGETHER)
    ]  # fmt: skip
    operations.post_asked(organization_id=organization, asked=asked)
    return asked


def waiters_for(table: str) -> list[int]:
    """Return the processes that wait for a lock on the table."""
    rows = sql("SELECT pid FROM pg_locks WHERE NOT granted AND relation = %s::regclass", table)
    return [pid for (pid,) in rows]


def test_is_said_by_every_table_of_tenants():
    silent = sql(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace"
        " AND a.attname = 'organization_id' AND NOT a.attisdropped"
        " AND NOT coalesce(a.attoptions, '{}') && ARRAY[%s]",
        f"n_distinct={planner.ORGANIZATIONS}",
    )

    assert silent == []


@pytest.mark.parametrize(
    "table", ["core_idempotency_key", "ledger_journal_entry", "ledger_posting"]
)
def test_what_mostly_grows_is_analyzed_when_half_as_many_rows_are_new(table):
    """Old statistics do no harm, which is the rest of this file, and new ones cost transfers."""
    [(options,)] = sql("SELECT reloptions FROM pg_class WHERE oid = %s::regclass", table)

    assert options == ["autovacuum_analyze_scale_factor=0.5"]


def test_balances_are_analyzed_by_a_small_sample():
    """One column that wants more makes it the sample of all."""
    targets = sql(
        "SELECT DISTINCT attstattarget FROM pg_attribute"
        " WHERE attrelid = 'ledger_balance'::regclass AND attnum > 0 AND NOT attisdropped"
    )

    assert targets == [(20,)]


def test_is_said_once_and_then_nothing_is_locked():
    """A release of which no migration makes a table waits for nobody's work."""
    other = connection.copy()
    other.set_autocommit(False)
    with contextlib.closing(other), other.cursor() as cursor:
        cursor.execute("LOCK TABLE ledger_posting, core_outbox_event IN SHARE ROW EXCLUSIVE MODE")
        with connection.cursor() as waiting:
            waiting.execute("SET lock_timeout = '100ms'")
        planner.after_migrations(using="default")
        sql("RESET lock_timeout")


def test_is_said_of_one_table_at_a_time():
    """One that has to wait for autovacuum keeps no other from it, or from its new weeks."""
    first, last = "core_idempotency_key", "ledger_posting"
    assert sql("SELECT %s::regclass::oid < %s::regclass::oid", first, last) == [(True,)]
    for table in (first, last):
        sql(f"ALTER TABLE {table} ALTER organization_id RESET (n_distinct)")
    other = connection.copy()
    other.set_autocommit(False)
    with contextlib.closing(other), other.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {last} IN SHARE UPDATE EXCLUSIVE MODE")
        saying = Asking(partial(planner.after_migrations, using="default"))
        wait_until(lambda: waiters_for(last) != [])
        # Autovacuum may have a lock on the other one, which says nothing of who waits.
        [waiter] = waiters_for(last)
        assert (
            sql("SELECT 1 FROM pg_locks WHERE pid = %s AND relation = %s::regclass", waiter, first)
            == []
        )
    saying.ended()

    assert saying.fault is None
    test_is_said_by_every_table_of_tenants()


def test_a_batch_of_who_came_since_is_not_compared_with_its_accounts_line_by_line(monkeypatch):
    """Where all rows that ANALYZE counted are of others, none is left for a new organization."""
    sql("ALTER TABLE ledger_balance SET (autovacuum_enabled = off)")
    try:
        open_many(create_organization())
        sql("ANALYZE ledger_balance")
        organization = create_organization()
        opened = open_many(organization)
        plans, put = [], statements._put

        def putting(django, statement, values, *, is_silent):
            explained = put(django, f"EXPLAIN (FORMAT JSON) {statement}", values, is_silent=False)
            plans.extend(row[0][0]["Plan"] for row in statements.Answer(django, explained).rows())
            return put(django, statement, values, is_silent=is_silent)

        monkeypatch.setattr(statements, "_put", putting)
        # Of one row it costs the same on paper as what it is to be told from.
        sql("SET enable_hashjoin = off")
        operations.post_transfers(
            organization_id=organization,
            transfers=[
                TransferRequest(
                    debit_account_id=debit, credit_account_id=credit, amount_minor=1, currency="EUR"
                )
                for debit, credit in batched(opened.values(), 2)
            ],
            mode="independent",
            idempotency_key="many",
            actor=ACTOR,
            now=NOW,
        )  # fmt: skip
    finally:
        sql("RESET enable_hashjoin")
        sql("ALTER TABLE ledger_balance RESET (autovacuum_enabled)")

    nodes = [node for plan in plans for node in _nodes_of(plan)]
    [update] = [node for node in nodes if node.get("Operation") == "Update"]
    assert update["Relation Name"] == "ledger_balance"
    assert [node for node in _nodes_of(update) if "Join Filter" in node] == []


def open_many(organization):
    return committed(operations.open_accounts)(
        organization_id=organization,
        accounts=[
            AccountSpec(f"wallets:{number}:EUR", "liability", "EUR", internal=False)
            for number in range(GROWN)
        ],
        now=NOW,
    )


def _nodes_of(plan):
    yield plan
    for below in plan.get("Plans", []):
        yield from _nodes_of(below)


@pytest.mark.parametrize("turn", ["first", "prepared"])
def test_for_one_transfer(books, turn):
    """Of a plain one the statements of its function are planned in the same way."""
    organization, ann, bob = books
    if turn == "prepared":
        for number in range(6):
            post_transfer(organization, ann, bob, 1, key=f"before-{number}")

    read = rows_read(partial(post_transfer, organization, ann, bob, 1, key="k"))

    assert_few(read, 40)


@pytest.mark.parametrize("turn", ["first", "prepared"])
def test_for_many_at_once(books, turn):
    organization, ann, bob = books
    if turn == "prepared":
        # Postgres plans a prepared statement's first five runs for their values.
        for number in range(6):
            ask(organization, ann, bob, key=f"before-{number}")

    read = rows_read(partial(ask, organization, ann, bob))

    assert_few(read, 12 * TOGETHER)


def test_for_many_that_are_refused(books):
    organization, ann, bob = books

    read = rows_read(partial(ask, organization, ann, bob, amount=2_000_000))

    assert {"refused"} == {
        "refused" if isinstance(one.answer.refusal, InsufficientFunds) else "posted"
        for one in ask(organization, ann, bob, amount=2_000_000, key="again")
    }
    assert_few(read, 12 * TOGETHER)


def test_for_references_that_stand(books):
    organization, _ann, _bob = books
    debit, credit = (
        LedgerAccount.objects.get(organization_id=organization, code=f"wallets:{side}_0:EUR").id
        for side in "ab"
    )
    # Of one pair of accounts, each a few times.
    asked = partial(ask, organization, debit, credit, reference=lambda n: f"r-{n % 40 * 100}")

    read = rows_read(asked)

    assert_few(read, 12 * TOGETHER)


def test_for_one_that_is_dated_back(books):
    """What was posted on its accounts since is read: of these accounts, and no others."""
    organization, _ann, _bob = books
    cy, dan = (open_account(organization, f"wallets:{name}:EUR") for name in ("cy", "dan"))
    fund(organization, cy, 10, at=NOW - timedelta(days=3))

    read = rows_read(
        partial(
            post_transfer, organization, cy, dan, 1, key="back",
            effective_at=NOW - timedelta(days=2),
        )
    )  # fmt: skip

    assert_few(read, 40)


@pytest.fixture
def long_history(books):
    """An account to which two thousand pay-ins came, one an hour until yesterday, and a new one."""
    organization, _ann, _bob = books
    bank = open_account(organization, "bank:ba_2:EUR", type_="asset", floor=None, internal=True)
    cy, dan = (open_account(organization, f"wallets:{name}:EUR") for name in ("cy", "dan"))
    yesterday = NOW - timedelta(days=1)
    hours = [yesterday - timedelta(hours=hour) for hour in reversed(range(HOURS))]
    write_history(organization, [Move(bank, cy, 1, at, at) for at in hours])
    return organization, cy, dan


@pytest.mark.parametrize("turn", ["first", "prepared"])
def test_for_one_that_is_dated_back_on_a_long_history(long_history, turn):
    """What was posted before is not read, but for a few on the way to what was posted since."""
    organization, cy, dan = long_history
    back = partial(post_transfer, organization, cy, dan, 1, effective_at=NOW - timedelta(days=2))
    if turn == "prepared":
        for number in range(6):
            back(key=f"before-{number}")

    read = rows_read(partial(back, key="back"))

    assert_few(read, 120)


@pytest.mark.parametrize("turn", ["first", "prepared"])
def test_for_one_of_an_account_with_money_to_come(long_history, turn):
    """It is checked against what is dated later: nothing of what was posted is read for that."""
    organization, cy, dan = long_history
    fund(organization, cy, 10, at=datetime(2199, 1, 1, tzinfo=UTC))
    if turn == "prepared":
        for number in range(6):
            post_transfer(organization, cy, dan, 1, key=f"before-{number}")

    read = rows_read(partial(post_transfer, organization, cy, dan, 1, key="k"))

    assert_few(read, 60)


def test_for_the_portion_that_is_sealed(books):
    organization, ann, bob = books
    outbox.relay_organization(organization_id=organization)
    while operations.seal_entries(organization_id=organization, now=NOW):
        pass
    ask(organization, ann, bob)
    outbox.relay_organization(organization_id=organization)

    read = rows_read(partial(operations.seal_entries, organization_id=organization, now=NOW))

    assert_few(read, 12 * TOGETHER)
