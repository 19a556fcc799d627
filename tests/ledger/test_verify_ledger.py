"""The books proved by our own recount: whatever a superuser changes, the first bad row is named."""

from uuid import UUID

import pytest
from django.core.management import call_command

from apps.core import invariants, outbox
from apps.core.ids import encode_id, new_id
from apps.ledger import operations, queries
from apps.ledger.invariants import INVARIANTS, RECOUNTS
from apps.ledger.management.commands import verify_ledger
from apps.ledger.models import ChainHead, ChainLink, JournalEntry
from apps.ledger.queries import _recount
from apps.ledger.rules import CaptureHold, PlaceHold, VoidHold
from tests.ledger.factories import (
    NOW,
    create_organization,
    fund,
    move,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.tampering import corrupt, faults

pytestmark = pytest.mark.django_db(transaction=True)

# A walk reads so many rows a step, and changes nothing: each is tried on the same books.
PORTIONS = (1, 2, 3, 4, 100)


@pytest.fixture
def books():
    """Six entries in three currencies, none of them sealed."""
    organization = create_organization()
    for currency, amount in (("EUR", 100_50), ("JPY", 9_000), ("KWD", 7_125)):
        ann = open_account(organization, f"customers:cus_ann:available:{currency}")
        bob = open_account(organization, f"customers:cus_bob:available:{currency}")
        fund(organization, ann, amount, currency=currency)
        post_transfer(
            organization, ann, bob, amount // 3, key=currency, currency=currency,
            description="Rent", reference=f"ref-{currency}", metadata={"a": "1"},
        )  # fmt: skip
    return organization


@pytest.fixture
def sealed(books):
    seal(books)
    return books


def seal(organization) -> None:
    outbox.relay_organization(organization_id=organization)
    operations.seal_entries(organization_id=organization, now=NOW)


def entry_at(organization, position):
    return ChainLink.objects.get(organization_id=organization, position=position).entry_id


def remove_entry(entry) -> None:
    """Take an entry out of the books with every trace: postings, counters, versions."""
    corrupt(
        "UPDATE ledger_balance b SET version = version - 1,"
        " posted_debits = posted_debits - GREATEST(p.amount_minor, 0),"
        " posted_credits = posted_credits + LEAST(p.amount_minor, 0),"
        " latest_effective_at = (SELECT MAX(o.effective_at) FROM ledger_posting o"
        "                         WHERE o.account_id = b.id AND o.entry_id <> p.entry_id)"
        " FROM ledger_posting p WHERE p.account_id = b.id AND p.entry_id = %s",
        entry,
    )
    corrupt("DELETE FROM ledger_posting WHERE entry_id = %s", entry)
    corrupt("DELETE FROM ledger_journal_entry WHERE id = %s", entry)


class TestSoundBooks:
    def test_are_found_right_sealed_or_not(self, books, capsys):
        call_command("verify_ledger")
        seal(books)
        call_command("verify_ledger")

        out = capsys.readouterr().out
        assert out.count("The ledger is right: 6 entries, 12 postings recomputed.") == 2
        assert f"ok  the chain of {encode_id('org', books)}" in out

    def test_are_walked_with_a_word_on_how_far_it_is(self, sealed, capsys, monkeypatch):
        monkeypatch.setattr(verify_ledger, "_PROGRESS_SECONDS", -1.0)
        monkeypatch.setattr(_recount, "_PORTION", 2)

        call_command("verify_ledger")
        told = capsys.readouterr().out
        call_command("verify_ledger", quiet=True)

        printed = encode_id("org", sealed)
        for what in ("statements: 1", f"{printed} links: 2", f"{printed} links: 6",
                     f"{printed} events: 4"):  # fmt: skip
            assert f"      {what} so far\n" in told
        assert capsys.readouterr().out == ""

    def test_are_noted_as_verified(self, sealed):
        call_command("verify_ledger", quiet=True)

        status = queries.chain_status(organization_id=sealed)

        assert status.verified_position == 6
        assert status.verified_at is not None

    def test_with_holds_captured_in_parts(self, books):
        ids = queries.account_ids(
            organization_id=books,
            codes=["customers:cus_ann:available:EUR", "customers:cus_bob:available:EUR"],
        )
        debit, credit = ids.values()
        for ending in (2_00, None, "void"):
            hold = PlaceHold(id=new_id(), debit_account_id=debit, credit_account_id=credit,
                             amount_minor=5_00, currency="EUR", multi_capture=True)  # fmt: skip
            post(books, hold)
            capture = CaptureHold(hold_id=hold.id, entry_id=new_id(), kind="x", amount_minor=3_00)
            post(books, capture)
            if ending == "void":
                post(books, VoidHold(hold_id=hold.id))
            elif ending is not None:
                post(books, CaptureHold(hold_id=hold.id, entry_id=new_id(), kind="x",
                                        amount_minor=ending))  # fmt: skip

        call_command("verify_ledger", quiet=True)

    def test_of_one_organization_alone(self, sealed, capsys):
        other = create_organization("Other")
        fund(other, open_account(other, "customers:cus_x:available:EUR"), 5)
        entry = JournalEntry.objects.get(organization_id=other).id
        corrupt("UPDATE ledger_posting SET amount_minor = 6 WHERE entry_id = %s AND number = 1",
                entry)  # fmt: skip

        call_command("verify_ledger", organization=encode_id("org", sealed))

        assert "6 entries, 12 postings" in capsys.readouterr().out
        assert encode_id("je", entry) in faults(capsys, organization=encode_id("org", other))


class TestChangedEntries:
    def test_an_amount(self, sealed, capsys):
        entry = entry_at(sealed, 4)
        corrupt("UPDATE ledger_posting SET amount_minor = amount_minor + 1"
                " WHERE entry_id = %s AND number = 1", entry)  # fmt: skip

        out = faults(capsys)

        printed = encode_id("je", entry)
        assert "FAULT ledger_entry_is_whole" in out
        assert f"entry={printed}, what=sums to 1" in out
        assert f"position=4, entry={printed}, what=postings is" in out

    def test_an_amount_with_everything_that_follows_from_it(self, sealed, capsys):
        """The books are made to agree with themselves again; the chain alone is left to tell."""
        entry = entry_at(sealed, 6)
        sign = "CASE WHEN amount_minor > 0 THEN 1 ELSE -1 END"
        corrupt(f"UPDATE ledger_posting SET amount_minor = amount_minor + {sign},"
                " balance_after_minor = balance_after_minor - 1 WHERE entry_id = %s"
                " AND amount_minor > 0", entry)  # fmt: skip
        corrupt(f"UPDATE ledger_posting SET amount_minor = amount_minor + {sign},"
                " balance_after_minor = balance_after_minor + 1 WHERE entry_id = %s"
                " AND amount_minor < 0", entry)  # fmt: skip
        for column, side in (("posted_debits", ">"), ("posted_credits", "<")):
            corrupt(f"UPDATE ledger_balance b SET {column} = {column} + 1 FROM ledger_posting p"
                    f" WHERE p.account_id = b.id AND p.entry_id = %s AND p.amount_minor {side} 0",
                    entry)  # fmt: skip
        for column, side in (("debits_minor", ">"), ("credits_minor", "<")):
            corrupt(f"UPDATE ledger_monthly_total t SET {column} = {column} + 1"
                    " FROM ledger_posting p WHERE p.account_id = t.account_id"
                    f" AND p.entry_id = %s AND p.amount_minor {side} 0", entry)  # fmt: skip
            corrupt(f"UPDATE ledger_type_total t SET {column} = {column} + 1"
                    " FROM ledger_posting p JOIN ledger_account a ON a.id = p.account_id"
                    " WHERE a.type = t.type AND a.currency = t.currency"
                    f" AND p.entry_id = %s AND p.amount_minor {side} 0", entry)  # fmt: skip

        out = faults(capsys)

        assert out.count("FAULT") == 1
        assert f"position=6, entry={encode_id('je', entry)}, what=postings is" in out

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ("description = 'Gift'", "description, metadata"),
            ('metadata = \'{"a": "2"}\'', "description, metadata"),
            ("actor = 'staff:nobody'", "description, metadata"),
            ("reference = 'other'", "reference is other, and was ref-"),
            ("kind = 'gift'", "kind is gift, and was transfer"),
        ],
    )
    def test_a_column(self, sealed, capsys, change, what):
        entry = entry_at(sealed, 2)
        corrupt(f"UPDATE ledger_journal_entry SET {change} WHERE id = %s", entry)

        out = faults(capsys)

        assert out.count("FAULT") == 1
        assert f"position=2, entry={encode_id('je', entry)}, what=" in out
        assert what in out

    @pytest.mark.parametrize("clock", ["effective_at", "recorded_at"])
    def test_a_time(self, sealed, capsys, clock):
        entry = entry_at(sealed, 3)
        for table, key in (("ledger_journal_entry", "id"), ("ledger_posting", "entry_id")):
            corrupt(f"UPDATE {table} SET {clock} = {clock} - interval '1 microsecond'"
                    f" WHERE {key} = %s", entry)  # fmt: skip

        out = faults(capsys)

        assert f"position=3, entry={encode_id('je', entry)}, what=" in out

    def test_the_code_of_an_account(self, sealed, capsys):
        corrupt("UPDATE ledger_account SET code = 'x' WHERE code LIKE '%%bob%%EUR'")

        assert "position=2" in faults(capsys)

    def test_an_entry_taken_out_with_every_trace(self, sealed, capsys):
        entry = entry_at(sealed, 6)
        remove_entry(entry)

        out = faults(capsys)

        printed = encode_id("je", entry)
        assert f"position=6, entry={printed}, what=the entry is missing" in out
        assert "FAULT ledger_link_has_its_entry" in out

    def test_an_entry_taken_out_with_its_link_months_and_head(self, sealed, capsys):
        entry = entry_at(sealed, 6)
        corrupt("DELETE FROM ledger_monthly_total t USING ledger_posting p"
                " WHERE p.account_id = t.account_id AND p.entry_id = %s", entry)  # fmt: skip
        remove_entry(entry)
        corrupt("DELETE FROM ledger_chain_link WHERE position = 6")
        last = ChainLink.objects.get(position=5)
        ChainHead.objects.update(position=5, hash=last.hash)

        out = faults(capsys)

        assert "FAULT ledger_event_has_its_entry" in out
        assert f"entry={encode_id('je', entry)}, what=an event without its entry" in out


class TestChangedChain:
    def test_two_links_swapped(self, sealed, capsys):
        second, third = entry_at(sealed, 2), entry_at(sealed, 3)
        for position, entry in ((2, new_id()), (3, second), (2, third)):
            corrupt("UPDATE ledger_chain_link SET entry_id = %s WHERE position = %s",
                    entry, position)  # fmt: skip

        assert f"position=2, entry={encode_id('je', third)}" in faults(capsys)

    def test_a_link_removed(self, sealed, capsys):
        corrupt("DELETE FROM ledger_chain_link WHERE position = 3")

        out = faults(capsys)

        assert "the link at position 3 is missing; the next one is 4" in out
        assert "FAULT ledger_chain_has_no_gap" in out
        assert "FAULT ledger_chain_skips_no_entry" in out

    def test_a_hash(self, sealed, capsys):
        corrupt("UPDATE ledger_chain_link SET hash = sha256('x') WHERE position = 5")

        assert "position=5" in faults(capsys)

    def test_the_head(self, sealed, capsys):
        corrupt("UPDATE ledger_chain_head SET hash = sha256('x')")

        assert "position=6, entry=, what=the head is at position 6" in faults(capsys)

    def test_is_not_noted_as_verified_and_another_one_is(self, sealed, capsys):
        sound = create_organization("Sound")
        fund(sound, open_account(sound, "wallets:cy:EUR"), 5)
        seal(sound)
        corrupt("UPDATE ledger_chain_link SET hash = sha256('x')"
                " WHERE position = 5 AND organization_id = %s", sealed)  # fmt: skip

        faults(capsys)

        noted = [queries.chain_status(organization_id=id_) for id_ in (sealed, sound)]
        assert [(status.verified_at is None, status.verified_position) for status in noted] == [
            (True, 0),
            (False, 1),
        ]

    def test_a_month(self, sealed, capsys):
        corrupt("UPDATE ledger_monthly_total SET debits_minor = debits_minor + 1")

        out = faults(capsys)

        assert out.count("FAULT") == 2
        assert "FAULT ledger_month_is_what_was_sealed" in out
        assert "FAULT ledger_type_total_is_what_its_months_come_to" in out

    def test_entries_that_wait_too_long(self, sealed, capsys):
        ids = queries.account_ids(
            organization_id=sealed,
            codes=["customers:cus_ann:available:EUR", "customers:cus_bob:available:EUR"],
        )
        post(sealed, move(*ids.values(), 1))
        outbox.relay_organization(organization_id=sealed)
        call_command("verify_ledger", quiet=True)
        corrupt("UPDATE core_outbox_batch SET inserted_at = inserted_at - interval '61 minutes'")

        assert "FAULT ledger_is_sealed_within_an_hour" in faults(capsys)


class TestChangedBooks:
    @pytest.mark.parametrize(
        ("statement", "name"),
        [
            ("UPDATE ledger_balance SET version = version + 1",
             "ledger_balance_follows_its_postings"),
            ("UPDATE ledger_balance SET latest_effective_at = now()",
             "ledger_balance_follows_its_postings"),
            ("DELETE FROM ledger_posting WHERE account_version = 1",
             "ledger_balance_follows_its_postings"),
            ("UPDATE ledger_posting SET balance_after_minor = balance_after_minor + 1",
             "ledger_balance_follows_its_postings"),
            ("DELETE FROM ledger_posting", "ledger_entry_is_whole"),
            ("DELETE FROM ledger_journal_entry", "ledger_entry_is_whole"),
            ("UPDATE ledger_posting SET number = number + 10", "ledger_entry_is_whole"),
            ("UPDATE ledger_posting SET effective_at = now()", "ledger_entry_is_whole"),
            ("UPDATE ledger_posting SET currency = 'CHF' WHERE number = 1",
             "ledger_entry_is_whole"),
            ("DELETE FROM core_outbox_event", "ledger_entry_has_its_event"),
            ("UPDATE ledger_balance SET pending_credits = 5", "ledger_pending_equals_open_holds"),
            ("DELETE FROM ledger_balance", "ledger_account_has_its_balance"),
            ("DELETE FROM ledger_account", "ledger_account_has_its_balance"),
        ],
    )  # fmt: skip
    def test_are_seen_before_they_are_sealed(self, books, capsys, statement, name):
        corrupt(statement)

        assert f"FAULT {name}" in faults(capsys)

    def test_an_entry_that_is_zero_in_sum_and_not_per_currency(self, books, capsys):
        entry = JournalEntry.objects.earliest("id").id
        corrupt("UPDATE ledger_posting SET currency = 'USD' WHERE entry_id = %s AND number = 1",
                entry)  # fmt: skip

        assert f"entry={encode_id('je', entry)}, what=not zero in each currency" in faults(capsys)

    def test_a_trial_balance_that_is_zero_over_all_currencies_and_in_none(self, books, capsys):
        for currency, side in (("EUR", "debits"), ("JPY", "credits")):
            corrupt(
                f"UPDATE ledger_balance SET posted_{side} = posted_{side} + 5 WHERE ctid ="
                " (SELECT MIN(ctid) FROM ledger_balance WHERE currency = %s)",
                currency,
            )

        _, _, named = faults(capsys).partition("FAULT ledger_trial_balance_is_zero\n")

        assert ["currency=EUR" in named, "currency=JPY" in named] == [True, True]

    def test_an_entry_taken_out_before_it_was_sealed(self, books, capsys):
        remove_entry(JournalEntry.objects.latest("id").id)

        out = faults(capsys)

        assert out.count("FAULT") == 1
        assert "FAULT ledger_entry_has_its_event" in out

    @pytest.mark.parametrize(
        ("change", "name"),
        [
            ("captured_minor = 5_00", "ledger_hold_agrees_with_its_history"),
            ("captured_minor = 0, status = 'voided'", "ledger_hold_agrees_with_its_history"),
            ("captured_minor = 0, status = 'open'", "ledger_pending_equals_open_holds"),
        ],
    )
    def test_a_hold_that_is_otherwise_than_its_history(self, books, capsys, change, name):
        place_and_capture(books)
        corrupt(f"UPDATE ledger_hold SET {change}")

        assert f"FAULT {name}" in faults(capsys)

    def test_a_capture_of_another_amount_than_its_entry(self, books, capsys):
        place_and_capture(books)
        corrupt("UPDATE ledger_hold_event SET amount_minor = 2_00 WHERE kind = 'captured'")

        assert "FAULT ledger_capture_is_posted" in faults(capsys)


def place_and_capture(organization) -> None:
    ids = queries.account_ids(
        organization_id=organization,
        codes=["customers:cus_ann:available:EUR", "customers:cus_bob:available:EUR"],
    )
    debit, credit = ids.values()
    hold = PlaceHold(id=new_id(), debit_account_id=debit, credit_account_id=credit,
                     amount_minor=5_00, currency="EUR")  # fmt: skip
    post(organization, hold)
    post(organization, CaptureHold(hold_id=hold.id, entry_id=new_id(), kind="x",
                                   amount_minor=3_00))  # fmt: skip


def walked(*, portion: int, start=None):
    """Walk the ledger's invariants by portions; return the breaches, and all places on the way."""
    statements = {
        name: found
        for name, found in (INVARIANTS | RECOUNTS).items()
        if isinstance(found, invariants.Walk)
    }
    steps = list(invariants.steps(statements, portion=portion, start=start))
    return [step.breach for step in steps if step.breach], [step.following for step in steps]


def entries_by_id(organization) -> list:
    found = JournalEntry.objects.filter(organization_id=organization).order_by("id")
    return list(found.values_list("id", flat=True))


class TestInPortions:
    """What one statement found over everything, statements over ranges find together."""

    @pytest.fixture(autouse=True)
    def _another(self, sealed):
        other = create_organization("Other")
        fund(other, open_account(other, "customers:cus_x:available:EUR"), 5)
        seal(other)

    def test_sound_books_are_right(self):
        for portion in (1, 2, 3, 4, 5, 100):
            found, places = walked(portion=portion)

            assert (portion, found) == (portion, [])
            assert places[-1] is None
            # Some of them cross from one organisation into the other.
            assert len(places) > 10 or portion > 3

    @pytest.mark.parametrize("place", range(6))
    def test_a_wrong_amount_is_found_wherever_it_stands(self, sealed, place):
        entry = entries_by_id(sealed)[place]
        corrupt("UPDATE ledger_posting SET amount_minor = amount_minor + 1"
                " WHERE entry_id = %s AND number = 1", entry)  # fmt: skip

        for portion in PORTIONS:
            found, _ = walked(portion=portion)

            assert (portion, {breach.name for breach in found}) == (portion, {
                "ledger_entry_is_whole", "ledger_balance_follows_its_postings",
                "ledger_month_is_what_was_sealed",
            })  # fmt: skip
            assert found[0].rows[0]["entry"] == encode_id("je", entry)

    @pytest.mark.parametrize("place", range(6))
    def test_an_entry_or_its_postings_gone_is_found_wherever_it_stood(self, sealed, place):
        entry = entries_by_id(sealed)[place]
        corrupt("DELETE FROM ledger_journal_entry WHERE id = %s", entry)

        for portion in PORTIONS:
            found, _ = walked(portion=portion)

            [whole] = [breach for breach in found if breach.name == "ledger_entry_is_whole"]
            assert (portion, whole.rows[0]["what"], whole.rows[0]["entry"]) == (
                portion, "postings without their entry", encode_id("je", entry),
            )  # fmt: skip

    @pytest.mark.parametrize("place", range(6))
    def test_a_balance_or_a_version_gone_is_found_wherever_it_stood(self, sealed, place):
        ids = sorted(queries.accounts(organization_id=sealed).values_list("id", flat=True))
        assert len(ids) == 9
        corrupt("DELETE FROM ledger_balance WHERE id = %s", ids[place])

        for portion in PORTIONS:
            found = {breach.name: breach for breach in walked(portion=portion)[0]}

            [row] = found["ledger_balance_follows_its_postings"].rows
            assert (portion, row["what"], row["account"]) == (
                portion,
                "postings without a balance of their currency",
                encode_id("la", ids[place]),
            )

    def test_postings_of_an_organization_that_has_no_entry_are_found(self, sealed):
        nobody = UUID(int=1)
        entry = entries_by_id(sealed)[0]
        corrupt("UPDATE ledger_posting SET organization_id = %s WHERE entry_id = %s", nobody, entry)

        for portion in PORTIONS:
            found, _ = walked(portion=portion)

            wrong = {row["organization_id"] for breach in found for row in breach.rows}
            assert (portion, nobody in wrong) == (portion, True)

    def test_whoever_stopped_goes_on_and_misses_nothing(self, sealed):
        entry = entries_by_id(sealed)[-1]
        corrupt("DELETE FROM ledger_posting WHERE entry_id = %s", entry)
        _, places = walked(portion=1)
        entries = [p for p in places if p and p.name == "ledger_entry_is_whole"]
        assert len(entries) == 5

        for place in entries:
            found, _ = walked(portion=1, start=place)

            assert "ledger_entry_is_whole" in {breach.name for breach in found}

    def test_one_organization_is_walked_alone(self, sealed):
        entry = entries_by_id(sealed)[0]
        corrupt("DELETE FROM ledger_posting WHERE entry_id = %s", entry)
        [other] = [id_ for id_ in queries.list_chained_organizations() if id_ != sealed]

        for owner, breaks in ((other, 0), (sealed, 3)):
            found = invariants.check(INVARIANTS | RECOUNTS, organization_id=owner)

            assert sum(1 for _, breach in found if breach) == breaks
