"""Each condition of each invariant of the books, broken alone, is seen by that invariant."""

from contextlib import contextmanager
from uuid import UUID

import pytest
from django.db import connection

from apps.core import invariants, outbox
from apps.core.ids import new_id
from apps.ledger import operations
from apps.ledger.invariants import INVARIANTS, RECOUNTS
from apps.ledger.rules import CaptureHold, PlaceHold, VoidHold
from tests.ledger.factories import ACTOR, NOW, balance, move, open_account, post
from tests.ledger.test_annotate_entry import annotate
from tests.ledger.test_monitors import call_off, watch
from tests.ledger.test_tampering import Told

pytestmark = pytest.mark.django_db(transaction=True)

CHECKS = INVARIANTS | RECOUNTS
SECOND = "interval '1 second'"
LAST_ENTRY = "(SELECT id FROM ledger_journal_entry ORDER BY id DESC LIMIT 1)"
WITHOUT_ITS_EVENT = (
    f"DELETE FROM core_outbox_event WHERE aggregate_id = kassa_public_id('je', {LAST_ENTRY})"
)
# An entry's event is asked for as long as it is kept, whenever these tests run.
RECENT = "UPDATE ledger_journal_entry SET recorded_at = now()"
LAST_BATCH = "(SELECT MAX(position) FROM core_outbox_batch)"
FIRST_WAITING = "(SELECT MAX(feed_position) + 1 FROM ledger_chain_head)"
THEIR_ENTRY = (
    "(SELECT id FROM ledger_journal_entry e"
    " WHERE e.organization_id <> ledger_transfer_batch.organization_id LIMIT 1)"
)
NEVER_MOVED = "(SELECT id FROM ledger_account WHERE code = 'wallets:cat:EUR')"


def each(table: str, columns: str, where: str) -> list[str]:
    """Return a statement for each of the columns, which adds one to it."""
    return [f"UPDATE {table} SET {name} = {name} + 1 WHERE {where}" for name in columns.split()]


def times(column: str) -> list[str]:
    """Return what makes an entry's first posting early, and what makes its last one late."""
    return [
        f"UPDATE ledger_posting SET {column} = {column} - {SECOND} WHERE number = 1",
        f"UPDATE ledger_posting SET {column} = {column} + {SECOND} WHERE number = 2",
    ]


AFTER = "UPDATE ledger_posting SET balance_after_minor = balance_after_minor + 1 WHERE account_id"

# By the invariant that has to see it, what breaks one of its conditions and no other of them.
BROKEN: dict[str, list[str]] = {
    "ledger_entry_is_whole": [
        "UPDATE ledger_posting SET number = 0 WHERE number = 1",
        "UPDATE ledger_posting SET number = 9 WHERE number = 2",
        *times("effective_at"),
        *times("recorded_at"),
        f"DELETE FROM ledger_posting WHERE entry_id = {LAST_ENTRY}",
        f"DELETE FROM ledger_journal_entry WHERE id = {LAST_ENTRY}",
        f"UPDATE ledger_posting SET currency = 'GBP' WHERE number = 1 AND entry_id = {LAST_ENTRY}",
        "UPDATE ledger_posting SET amount_minor = amount_minor * 2 WHERE number = 1",
    ],
    "ledger_balance_follows_its_postings": [
        *(
            "UPDATE ledger_posting SET account_version = account_version + 1000"
            f" WHERE account_id IN (SELECT id FROM ledger_balance WHERE {side})"
            for side in ("credit_normal", "NOT credit_normal")
        ),
        f"{AFTER} IN (SELECT id FROM ledger_balance WHERE credit_normal)",
        f"{AFTER} IN (SELECT id FROM ledger_balance WHERE NOT credit_normal)",
        *each("ledger_balance", "version posted_debits posted_credits", "version > 0"),
        *each("ledger_balance", "version posted_debits posted_credits", "version = 0"),
        f"UPDATE ledger_balance SET latest_effective_at = latest_effective_at + {SECOND}",
        "UPDATE ledger_balance SET latest_effective_at = NULL WHERE version > 0",
        "UPDATE ledger_balance SET latest_effective_at = now() WHERE version = 0",
        "UPDATE ledger_balance SET currency = 'GBP' WHERE version > 0",
        "DELETE FROM ledger_balance WHERE version > 0",
    ],
    "ledger_pending_equals_open_holds": [
        *each("ledger_balance", "pending_debits", "pending_debits > 0"),
        *each("ledger_balance", "pending_credits", "pending_credits > 0"),
        *each("ledger_balance", "pending_debits pending_credits", "version = 0"),
        "UPDATE ledger_hold SET currency = 'GBP' WHERE status = 'open'",
        "UPDATE ledger_hold SET status = 'voided' WHERE status = 'open'",
        # One more, in a currency that neither of its accounts has.
        (
            "INSERT INTO ledger_hold SELECT (jsonb_populate_record(one, jsonb_build_object("
            "'id', gen_random_uuid(), 'currency', 'GBP', 'reference', NULL,"
            " 'keeps_reference', FALSE))).* FROM ledger_hold AS one WHERE status = 'open' LIMIT 1"
        ),
    ],
    "ledger_closed_account_is_empty": [
        "UPDATE ledger_balance SET status = 'closed' WHERE posted_debits > posted_credits",
        "UPDATE ledger_balance SET status = 'closed' WHERE posted_debits < posted_credits",
        "UPDATE ledger_balance SET status = 'closed', pending_debits = 1 WHERE version = 0",
        "UPDATE ledger_balance SET status = 'closed', pending_credits = 1 WHERE version = 0",
    ],
    "ledger_hold_agrees_with_its_history": [
        "UPDATE ledger_hold SET status = 'expired', multi_capture = TRUE WHERE status = 'captured'",
        "UPDATE ledger_hold SET status = 'voided' WHERE status = 'open'",
        *each("ledger_hold", "amount_minor", "status = 'open'"),
        *each("ledger_hold", "captured_minor", "status = 'captured'"),
        *each("ledger_hold_event", "amount_minor", "kind = 'voided'"),
        (
            "UPDATE ledger_hold SET status = 'expired' WHERE status = 'voided';"
            " UPDATE ledger_hold_event SET kind = 'expired', amount_minor = amount_minor + 1"
            " WHERE kind = 'voided'"
        ),
        (
            "DELETE FROM ledger_hold_event WHERE hold_id IN"
            " (SELECT id FROM ledger_hold WHERE status = 'open' AND captured_minor = 0)"
        ),
    ],
    "ledger_capture_is_posted": [
        f"UPDATE ledger_hold SET debit_account_id = {NEVER_MOVED} WHERE status = 'captured'",
        f"UPDATE ledger_hold SET credit_account_id = {NEVER_MOVED} WHERE status = 'captured'",
        "UPDATE ledger_hold SET currency = 'GBP' WHERE status = 'captured'",
        "DELETE FROM ledger_hold WHERE status = 'voided'",
    ],
    "ledger_account_has_its_balance": [
        "UPDATE ledger_balance SET currency = 'GBP'",
        "UPDATE ledger_balance SET credit_normal = NOT credit_normal, min_available_minor = NULL",
        "UPDATE ledger_balance SET organization_id = gen_random_uuid()",
        "DELETE FROM ledger_balance",
        "DELETE FROM ledger_account",
    ],
    "ledger_trial_balance_is_zero": [
        *each("ledger_balance", "posted_debits", "currency = 'USD'"),
        # As much too much in one currency, or organisation, as too little in the other.
        (
            "UPDATE ledger_balance SET posted_debits = posted_debits + 1 WHERE id ="
            " (SELECT MIN(id::text)::uuid FROM ledger_balance WHERE currency = 'EUR');"
            " UPDATE ledger_balance SET posted_credits = posted_credits + 1 WHERE id ="
            " (SELECT MAX(id::text)::uuid FROM ledger_balance WHERE currency = 'EUR')"
        ),
        (
            "UPDATE ledger_balance SET posted_debits = posted_debits + 1 WHERE ctid ="
            " (SELECT MIN(ctid) FROM ledger_balance WHERE currency = 'USD');"
            " UPDATE ledger_balance SET posted_credits = posted_credits + 1 WHERE ctid ="
            " (SELECT MIN(ctid) FROM ledger_balance WHERE currency = 'EUR')"
        ),
    ],
    "ledger_entry_has_its_event": [
        f"DELETE FROM ledger_journal_entry WHERE id = {LAST_ENTRY}",
        f"{RECENT}; {WITHOUT_ITS_EVENT}",
        f"{RECENT}; DELETE FROM core_outbox_batch WHERE position = {LAST_BATCH}",
    ],
    "ledger_is_sealed_within_an_hour": [
        (
            "UPDATE core_outbox_batch SET inserted_at = inserted_at - interval '61 minutes'"
            f" WHERE position = {FIRST_WAITING}"
        ),
        (
            "UPDATE core_outbox_batch SET inserted_at = inserted_at - interval '61 minutes';"
            " DELETE FROM ledger_chain_head"
        ),
    ],
    "ledger_chain_has_no_gap": [
        *each("ledger_chain_head", "position", "true"),
        (
            "UPDATE ledger_chain_link SET position = 1000"
            " WHERE position = (SELECT MAX(position) FROM ledger_chain_link)"
        ),
        "UPDATE ledger_chain_head SET feed_position = feed_position + 1000",
        "DELETE FROM ledger_chain_head",
        "DELETE FROM core_feed_head",
    ],
    "ledger_link_has_its_entry": ["DELETE FROM ledger_journal_entry"],
    "ledger_chain_skips_no_entry": [
        (
            "DELETE FROM ledger_chain_link"
            " WHERE position = (SELECT MAX(position) FROM ledger_chain_link)"
        ),
    ],
    "ledger_months_agree_by_both_clocks": [
        *each(
            "ledger_monthly_total",
            "debits_minor credits_minor postings first_version last_version",
            "clock = 'effective'",
        ),
        *each("ledger_monthly_total", "postings first_version", "true"),
        # The other clock's still say how many there are.
        "UPDATE ledger_monthly_total SET last_version = last_version - 1 WHERE clock = 'effective'",
        "DELETE FROM ledger_monthly_total WHERE clock = 'effective'",
    ],
    "ledger_month_is_what_was_sealed": [
        *each(
            "ledger_monthly_total",
            "debits_minor credits_minor postings first_version last_version",
            "clock = 'recorded'",
        ),
        "DELETE FROM ledger_monthly_total",
        (
            "INSERT INTO ledger_monthly_total"
            f" SELECT organization_id, {NEVER_MOVED}, clock, month, 0, 0, 0, 0, 0"
            " FROM ledger_monthly_total LIMIT 1"
        ),
    ],
    "ledger_type_total_is_what_its_months_come_to": [
        *each("ledger_type_total", "debits_minor credits_minor postings", "true"),
        "DELETE FROM ledger_type_total",
        (
            "INSERT INTO ledger_type_total SELECT organization_id, clock, '2020-01-01', currency,"
            " type, 0, 0, 0 FROM ledger_type_total LIMIT 1"
        ),
    ],
    "ledger_exchange_is_undone_as_a_whole": [
        f"UPDATE ledger_journal_entry SET reverses_id = (SELECT MAX({half}::text)::uuid"
        " FROM ledger_fx_transfer)"
        " WHERE reverses_id IS NOT NULL"
        for half in ("sold_entry_id", "bought_entry_id")
    ],
    "ledger_entry_of_an_exchange_has_it": ["DELETE FROM ledger_fx_transfer"],
    "ledger_entry_metadata_is_as_audited": [
        "DELETE FROM ledger_entry_metadata WHERE number = 1",
        "DELETE FROM ledger_entry_metadata",
        """UPDATE ledger_entry_metadata SET metadata = metadata || '{"forged": "yes"}'""",
    ],
    "ledger_batch_is_of_entries_or_refusals": [
        *(
            f"UPDATE ledger_transfer_batch SET entry_ids[{place}] = {entry} WHERE mode = '{mode}'"
            for place, mode in ((1, "independent"), (3, "independent"), (1, "reversal"))
            for entry in ("gen_random_uuid()", THEIR_ENTRY, "NULL")
        ),
        # Both an entry and a refusal, and a refusal of nothing.
        f"UPDATE ledger_transfer_batch SET entry_ids[2] = {LAST_ENTRY} WHERE mode = 'independent'",
        "UPDATE ledger_transfer_batch SET refusals = '{}' WHERE mode = 'independent'",
        """UPDATE ledger_transfer_batch SET refusals = refusals || '{"0": {}}'""",
        """UPDATE ledger_transfer_batch SET refusals = refusals || '{"3": {}}'""",
        "DELETE FROM ledger_journal_entry WHERE kind = 'reversal'",
    ],
    "ledger_monitor_is_what_was_asked": [
        *each("ledger_balance_monitor", "threshold_minor triggered event_sequence", "true"),
        "UPDATE ledger_balance_monitor SET measure = 'posted'",
        "UPDATE ledger_balance_monitor SET direction = 'above' WHERE direction = 'below'",
        f"UPDATE ledger_balance_monitor SET account_id = {NEVER_MOVED} WHERE NOT is_active",
        "UPDATE ledger_balance_monitor SET account_id = gen_random_uuid()",
        "UPDATE ledger_balance_monitor SET id = gen_random_uuid()",
        "UPDATE ledger_balance_monitor SET is_active = NOT is_active WHERE is_active",
        "UPDATE ledger_balance_monitor SET is_active = NOT is_active WHERE NOT is_active",
        "UPDATE ledger_balance_monitor SET triggered_at = now()",
        "DELETE FROM ledger_balance_monitor WHERE NOT is_active",
        "DELETE FROM core_audit_event WHERE act = 'ledger.create_monitor'",
        "DELETE FROM ledger_balance WHERE version = 0",
    ],
    "ledger_monitor_stands_where_its_balance_does": [
        "UPDATE ledger_balance SET monitored = FALSE",
        "UPDATE ledger_balance_monitor SET is_beyond = TRUE WHERE direction = 'below'",
        "UPDATE ledger_balance_monitor SET is_beyond = TRUE WHERE direction = 'above'",
    ],
    "ledger_closed_month_is_what_was_stored": each(
        "ledger_period_balance", "opening_minor debits_minor credits_minor", "true"
    ),
    "ledger_stored_month_has_its_period": [
        "DELETE FROM ledger_period",
        # Another organisation closed the same month.
        "DELETE FROM ledger_period WHERE id = (SELECT MAX(id::text)::uuid FROM ledger_period)",
        "UPDATE ledger_period SET closings = 0",
    ],
}
# Whose conditions are tried one by one in test_recounts.py.
ELSEWHERE = {"ledger_exchange_is_what_was_posted"}


@pytest.fixture
def books() -> Told:
    """Sealed books with a hold for every ending, and two entries that are not sealed yet."""
    # Another organisation closed the same month, with other accounts.
    before = Told()
    books = Told()
    books.before = before
    books.cat = open_account(books.id, "wallets:cat:EUR", floor=None)
    books.till = open_account(books.id, "tills:1:EUR", type_="asset", floor=None)
    ended, parted = (
        PlaceHold(
            id=new_id(), debit_account_id=books.ann, credit_account_id=books.bob,
            amount_minor=5_00, currency="EUR", multi_capture=True,
        )
        for _ in range(2)
    )  # fmt: skip
    part = CaptureHold(hold_id=parted.id, entry_id=new_id(), kind="x", amount_minor=1_00)
    # Money that is to leave the till, and money that is to come into it, though not as much.
    there, back = (
        PlaceHold(
            id=new_id(), debit_account_id=debit, credit_account_id=credit, amount_minor=amount,
            currency="EUR",
        )
        for debit, credit, amount in (
            (books.ann, books.till, 2_00), (books.till, books.ann, 1_00)
        )
    )  # fmt: skip
    post(books.id, ended, parted, part, VoidHold(hold_id=ended.id), there, back)
    # One that moves for the first time when others of its type have been sealed.
    post(books.id, move(books.ann, open_account(books.id, "wallets:dan:EUR"), 1))
    for number in "12":
        annotate(books.id, part.entry_id, {"n": number}, key=f"n-{number}")
    relay(books)
    while operations.seal_entries(organization_id=books.id, now=NOW):
        pass
    # They stand at the threshold itself, which is not beyond it.
    for account in (books.cat, books.till):
        stands = balance(books.id, account).available
        for direction in ("below", "above"):
            watch(books.id, account, stands, direction=direction, key=f"{account}-{direction}")
    # Nobody watches any longer which side this one is on.
    call_off(books.id, watch(books.id, books.bob, 10**6, key="off"))
    annotate(books.id, part.entry_id, {"n": "3"}, key="n-3")
    post(books.id, move(books.bob, books.ann, 1))
    relay(books)
    answered(books)
    # Nobody has given this one its place in the feed.
    post(books.id, move(books.bob, books.ann, 1))
    return books


def answered(books: Told) -> None:
    """A batch of three, of which the second is refused."""
    asked = [
        operations.TransferRequest(
            debit_account_id=books.ann, credit_account_id=credit, amount_minor=1, currency="EUR"
        )
        for credit in (books.bob, books.ann, books.bob)
    ]
    done = operations.post_transfers(
        organization_id=books.id, transfers=asked, mode="independent", idempotency_key="batch",
        actor=ACTOR, now=NOW,
    )  # fmt: skip
    assert [id_ is None for id_ in done.entry_ids] == [False, True, False]


def relay(books: Told) -> None:
    outbox.relay_organization(organization_id=books.id)


@contextmanager
def altered(statement: str):
    """Alter the books past the guards, and put them back."""
    connection.set_autocommit(False)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL session_replication_role = replica; {statement}")
        yield
    finally:
        connection.rollback()
        connection.set_autocommit(True)


def is_broken(name: str, **only: UUID) -> bool:
    [(_, breach)] = invariants.check({name: CHECKS[name]}, **only)
    return breach is not None


def broken(**only: UUID) -> set[str]:
    return {name for name in CHECKS if is_broken(name, **only)}


def test_is_seen_by_its_invariant(books):
    assert broken() == set()

    missed = []
    for name, statements in BROKEN.items():
        for statement in statements:
            with altered(statement):
                if not is_broken(name):
                    missed.append((name, statement))

    assert missed == []
    assert BROKEN.keys() == CHECKS.keys() - ELSEWHERE


def test_is_not_asked_for_an_event_that_is_no_longer_kept(books):
    """Of an imported entry that is older than the events that there are."""
    old = "UPDATE ledger_journal_entry SET recorded_at = now() - interval '{}'"

    for age, breaks in (("88 days", True), ("90 days", False)):
        with altered(f"{WITHOUT_ITS_EVENT}; {old.format(age)} WHERE id = {LAST_ENTRY}"):
            assert is_broken("ledger_entry_has_its_event") == breaks


def test_is_seen_only_where_it_is(books):
    """Each organisation is looked at alone, though the ids of all lie among each other."""
    other = Told()
    altered_there = "; ".join(
        f"UPDATE {table} SET {change} WHERE organization_id = '{books.id}'"
        for table, change in {
            "ledger_posting": "number = number + 7, balance_after_minor = 1, amount_minor = 2",
            "ledger_balance": "pending_debits = pending_debits + 1, currency = 'GBP'",
            "ledger_hold": "amount_minor = amount_minor + 1",
            "ledger_hold_event": "amount_minor = amount_minor + 1",
            "ledger_entry_metadata": "number = number + 9",
            "ledger_balance_monitor": "is_beyond = NOT is_beyond",
            "ledger_fx_transfer": "remainder_minor = 0.5, sold_entry_id = bought_entry_id",
            "ledger_monthly_total": "postings = postings + 1",
            "ledger_period_balance": "opening_minor = opening_minor + 1",
            "ledger_journal_entry": "kind = 'fx'",
        }.items()
    )

    with altered(altered_there):
        assert broken(organization_id=books.id) == broken() != set()
        for organization in (other.id, books.before.id):
            assert broken(organization_id=organization) == set()


def test_is_not_seen_in_the_order_that_rows_lie_in(books):
    """An account's first posting is written anew, so it lies behind those that followed it."""
    scans = "".join(f"SET LOCAL enable_{way}scan = off;" for way in ("index", "bitmap"))

    with altered(f"{scans} UPDATE ledger_posting SET number = number WHERE account_version = 1"):
        assert broken() == set()


def test_is_not_seen_in_an_exchange_whose_journal_is_being_imported(books):
    """Its entries come before it, and no account is a client's until it is through."""
    gone, name = "DELETE FROM ledger_fx_transfer", "ledger_entry_of_an_exchange_has_it"

    with altered(f"{gone}; UPDATE ledger_balance SET internal = TRUE"):
        assert not is_broken(name)
    with altered(gone):
        assert is_broken(name)
