"""What the application's role may do with the books, tried as that role."""

import contextlib
from threading import Event

import pytest
from django.core import checks
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import ProgrammingError, connection

from apps.core import outbox
from apps.core.ids import new_id
from apps.ledger import operations
from apps.ledger.models import ChainLink, JournalEntry, Posting
from apps.ledger.rules import CaptureHold, PlaceHold
from tests.ledger.factories import (
    NOW,
    create_organization,
    fund,
    move,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.test_guards import insert_entry, insert_postings
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

APPEND_ONLY = (
    "ledger_journal_entry",
    "ledger_posting",
    "ledger_hold_event",
    "ledger_chain_link",
    "ledger_entry_metadata",
    "ledger_fx_transfer",
    "ledger_period_balance",
    "ledger_transfer_batch",
)
CHANGING = (
    "ledger_account",
    "ledger_balance",
    "ledger_balance_monitor",
    "ledger_chain_head",
    "ledger_hold",
    "ledger_monthly_total",
    "ledger_period",
    "ledger_type_total",
)

AROUND = "{} may {}, and by that get round the guards of the books."
# Nearer to what the guard compares than Postgres' own, which is of two numerics.
NOTHING_DIFFERS = """
    CREATE FUNCTION public.same(numeric, integer) RETURNS boolean LANGUAGE sql AS 'SELECT false';
    CREATE OPERATOR public.<> (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = public.same)
"""


@pytest.fixture
def role():
    """Make a role as production has it: no owner of anything, with rights of its own."""
    name = f"web_of_{connection.settings_dict['NAME']}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {name}")
        cursor.execute(f"GRANT {name} TO CURRENT_USER WITH SET TRUE")
        cursor.execute(f"GRANT USAGE ON SCHEMA public TO {name}")
        # More than it may have: the command takes away what is too much.
        cursor.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
    call_command("grant_ledger", role=name)
    yield name
    with connection.cursor() as cursor:
        cursor.execute(f"DROP OWNED BY {name}")
        cursor.execute(f"DROP ROLE {name}")


@contextlib.contextmanager
def acting_as(role):
    with connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {role}")
        try:
            yield cursor
        finally:
            cursor.execute("RESET ROLE")


def test_all_tables_are_one_or_the_other():
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^ledger_'")
        assert {name for (name,) in cursor.fetchall()} == {*APPEND_ONLY, *CHANGING}


def test_opens_posts_holds_and_seals(role):
    organization = create_organization()
    with acting_as(role):
        ann = open_account(organization, "customers:cus_ann:available:EUR")
        bob = open_account(organization, "customers:cus_bob:available:EUR")
        fund(organization, ann, 100)
        post_transfer(organization, ann, bob, 10, key="k")
        post(organization, *(move(ann, bob, cents) for cents in (1, 2)))
        hold = PlaceHold(id=new_id(), debit_account_id=ann, credit_account_id=bob,
                         amount_minor=5, currency="EUR")  # fmt: skip
        post(organization, hold)
        post(organization, CaptureHold(hold_id=hold.id, entry_id=new_id(), kind="x"))
        outbox.relay_organization(organization_id=organization)

        assert operations.seal_entries(organization_id=organization, now=NOW) == 5

    assert ChainLink.objects.count() == JournalEntry.objects.count() == 5


def test_given_again_leaves_nobody_without_meanwhile(role):
    """As with each release, while the processes of the last one post."""
    done = Event()

    def read() -> None:
        try:
            with acting_as(role) as cursor:
                for _ in range(100):
                    for table in CHANGING:
                        cursor.execute(f"SELECT FROM {table} LIMIT 1")
        finally:
            done.set()

    def give() -> int:
        times = 0
        while not done.is_set():
            call_command("grant_ledger", role=role)
            times += 1
        return times

    _, times = race(read, give)

    assert times > 1


@pytest.mark.parametrize("table", [*APPEND_ONLY, *CHANGING])
def test_removes_nothing(role, table):
    for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):
        with acting_as(role) as cursor, pytest.raises(ProgrammingError, match="permission denied"):
            cursor.execute(statement)


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_changes_nothing_that_was_written(role, table):
    change = f"UPDATE {table} SET organization_id = organization_id"
    with acting_as(role) as cursor, pytest.raises(ProgrammingError, match="permission denied"):
        cursor.execute(change)


class TestTheCheckOfADeployment:
    @staticmethod
    def found() -> list[str]:
        """Return what `check --deploy --database default` says of who is connected."""
        told = checks.run_checks(
            tags=[checks.Tags.database], include_deployment_checks=True, databases=["default"]
        )
        return [one.msg for one in told if one.id == "kassa.E020"]

    def test_is_content_with_a_role_that_was_given_its_rights(self, role):
        with acting_as(role):
            assert self.found() == []

    def test_names_each_table_and_what_is_too_much(self, role):
        with connection.cursor() as cursor:
            # Its own schema comes before that of the books, and hides nothing.
            cursor.execute(f"CREATE SCHEMA {role}")
            cursor.execute(f"GRANT USAGE ON SCHEMA {role} TO {role}")
            cursor.execute(f"GRANT DELETE ON ledger_balance TO {role}")
            cursor.execute(f"GRANT UPDATE (currency), TRUNCATE ON ledger_posting TO {role}")
            cursor.execute(f"GRANT TRIGGER ON ledger_account TO {role}")

        with acting_as(role):
            assert self.found() == [
                f"{role} may TRIGGER ledger_account.",
                f"{role} may DELETE ledger_balance.",
                f"{role} may UPDATE, TRUNCATE ledger_posting.",
            ]
        with connection.cursor() as cursor:
            cursor.execute(f"DROP SCHEMA {role}")

    def test_names_a_role_that_may_say_what_is_equal(self, role):
        """As a database from before Postgres 15 lets everybody; it posts what does not add up."""
        organization = create_organization()
        ann, bob = (open_account(organization, f"wallets:{name}:EUR") for name in ("ann", "bob"))
        with connection.cursor() as cursor:
            cursor.execute(f"GRANT CREATE ON SCHEMA public TO {role}")

        with acting_as(role) as cursor:
            cursor.execute(NOTHING_DIFFERS)
            entry = insert_entry(organization)
            insert_postings(organization, entry, (ann, 5, "EUR"), (bob, -4, "EUR"))
            cursor.execute("DROP FUNCTION public.same(numeric, integer) CASCADE")
            [told] = self.found()

        assert sum(Posting.objects.values_list("amount_minor", flat=True)) == 1
        assert told == AROUND.format(role, "create in schema public")

    @pytest.mark.parametrize("role", ["nobody_such", "", 'x"; DROP TABLE ledger_posting; --'])
    def test_names_a_role_that_is_none(self, role):
        with pytest.raises(CommandError, match=r"^'.*': There is no such role\.$"):
            call_command("grant_ledger", role=role)

    def test_refuses_the_owner_of_the_tables(self):
        """Tests may switch the guards off, too."""
        told = self.found()
        owner = connection.settings_dict["USER"]

        assert told[:2] == [
            AROUND.format(owner, way)
            for way in ("set session_replication_role", "create in schema public")
        ]
        assert len(told[2:]) == len(APPEND_ONLY) + len(CHANGING)
        assert all(" may own, " in line for line in told[2:])

    def test_fails_the_command(self):
        with pytest.raises(SystemCheckError, match="ledger_posting"):
            call_command("check", deploy=True, databases=["default"], fail_level="ERROR")

    def test_is_silent_where_no_deployment_is_checked(self):
        call_command("check", databases=["default"])


def test_switches_no_guard_off(role):
    for statement in (
        "SET session_replication_role = replica",
        "ALTER TABLE ledger_posting DISABLE TRIGGER ALL",
        "DROP TABLE ledger_posting",
    ):
        with acting_as(role) as cursor, pytest.raises(ProgrammingError):
            cursor.execute(statement)
