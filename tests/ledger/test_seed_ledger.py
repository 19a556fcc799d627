"""Made-up books must be as right as real ones, whenever their making was interrupted."""

import signal
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Count, F, Max, Min, Sum

from apps.accounts.models import Organization
from apps.core import clock
from apps.core.errors import StateConflict
from apps.core.ids import decode_id, encode_id
from apps.core.invariants import breaches
from apps.core.models import OutboxEvent
from apps.ledger import operations, queries
from apps.ledger.models import Balance, ChainLink, JournalEntry, LedgerAccount, Posting
from tests.ledger.factories import create_organization, fund, open_account
from tests.ledger.histories import balances_at
from tests.support import running

pytestmark = pytest.mark.django_db(transaction=True)

POSTINGS = 2_000


def seed(organization_id, *, postings: int = POSTINGS, **more: object) -> None:
    call_command(
        "seed_ledger",
        organization=encode_id("org", organization_id),
        **{"postings": postings, "accounts": 40, "chunk": 300, **more},
    )


def plan(organization_id, **more: object) -> operations.SeedPlan:
    asked = {"postings": POSTINGS, "accounts": 40, "months": 24, "seed": 1}
    made = operations.plan_seeding(
        organization_id=organization_id, now=clock.now(), **(asked | more)
    )
    operations.relay_opened()
    return made


def sums_at(at, *, by: str) -> dict:
    """What each account's postings come to up to an instant, debits less credits, one by one."""
    earlier = Posting.objects.filter(**{f"{by}_at__lte": at})
    return dict(earlier.values_list("account_id").annotate(net=Sum("amount_minor")))


class TestSeededBooks:
    def test_are_right(self, capsys):
        seed(create_organization())

        call_command("verify_ledger")

        assert "1,000 entries, 2,000 postings recomputed" in capsys.readouterr().out
        assert breaches() == []

    def test_have_the_number_of_postings_asked_for_and_no_more(self):
        organization = create_organization()
        seed(organization, postings=1_999)

        seed(organization, postings=1_999)

        assert Posting.objects.filter(organization_id=organization).count() == POSTINGS

    def test_keep_the_floor_of_every_wallet_at_every_posting_by_either_clock(self):
        seed(create_organization())

        wallets = LedgerAccount.objects.filter(code__startswith="wallets:").values_list("id")
        postings = Posting.objects.filter(account_id__in=wallets)
        assert postings.aggregate(low=Min("balance_after_minor"))["low"] > 0
        for clock_name in ("effective_at", "recorded_at"):
            held: dict[object, int] = {}
            for posting in postings.order_by(clock_name, "entry_id", "number"):
                held[posting.account_id] = held.get(posting.account_id, 0) - posting.amount_minor
                assert held[posting.account_id] >= 0

    def test_are_spread_over_the_months_in_the_order_of_their_ids(self):
        seed(create_organization(), months=12)

        spread = JournalEntry.objects.aggregate(first=Min("recorded_at"), last=Max("recorded_at"))
        assert 364 <= (spread["last"] - spread["first"]).days <= 365
        by_id = list(JournalEntry.objects.order_by("id").values_list("recorded_at", flat=True))
        assert by_id == sorted(by_id)
        assert JournalEntry.objects.exclude(effective_at=F("recorded_at")).count() > 0

    def test_have_an_event_for_each_entry_however_old(self):
        seed(create_organization())

        events = OutboxEvent.objects.filter(name="ledger.journal_entry.posted")
        told = {decode_id("je", event.aggregate_id): event.recorded_at for event in events}
        assert told == dict(JournalEntry.objects.values_list("id", "recorded_at"))
        assert events.count() == 1_000
        event = events.order_by("recorded_at").last()
        entry = JournalEntry.objects.get(id=decode_id("je", event.aggregate_id))
        legs = Posting.objects.filter(entry_id=entry.id).order_by("number")
        assert event.data["postings"] == [
            {"ledger_account": encode_id("la", leg.account_id), "amount": leg.amount_minor,
             "currency": "EUR"}
            for leg in legs
        ]  # fmt: skip
        assert event.data["kind"] == entry.kind

    def test_reach_every_wallet_and_some_far_more_than_others(self):
        seed(create_organization(), postings=8_000, chunk=4_000)

        versions = Balance.objects.filter(internal=False).values_list("version", flat=True)
        assert min(versions) >= 3
        assert max(versions) > 5 * sorted(versions)[20]

    def test_know_the_latest_business_time_of_each_account(self):
        seed(create_organization())

        latest = dict(
            Posting.objects.values_list("account_id").annotate(latest=Max("effective_at"))
        )
        assert latest == dict(Balance.objects.values_list("id", "latest_effective_at"))

    def test_are_sealed_whole_and_read_through_time_as_their_postings_say(self, capsys):
        organization = create_organization()
        seed(organization)
        a_year_ago = clock.now() - timedelta(days=365)

        call_command("seal_ledger")
        call_command("verify_ledger")

        assert ChainLink.objects.count() == JournalEntry.objects.count() == 1_000
        assert "1,000 entries, 2,000 postings recomputed" in capsys.readouterr().out
        assert breaches() == []
        summed = {by: sums_at(a_year_ago, by=by) for by in ("effective", "recorded")}
        for by, sums in summed.items():
            assert len(sums) == 44
            assert {
                one.account_id: one.posted if one.type == "asset" else -one.posted
                for one in balances_at(organization, a_year_ago, clock=by)
            } == sums
        page = queries.page_until(
            organization_id=organization, until=a_year_ago, ask=queries.PageAsked(100)
        )
        assert {line.account_id: line.closing for line in page.lines} == summed["effective"]

    def test_are_verified_in_time_where_the_statistics_know_of_others_alone(self):
        with_statistics = create_organization("Northwind")
        fund(with_statistics, open_account(with_statistics, "wallets:w_1:EUR"), 5_00)
        call_command("seal_ledger")
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        seed(create_organization())

        call_command("seal_ledger")
        call_command("verify_ledger")  # by nested loops it runs into the statement's timeout

        assert breaches() == []

    def test_can_be_posted_to(self):
        organization = create_organization()
        seed(organization)

        fund(organization, open_account(organization, "wallets:new:EUR"), 5_00)

        call_command("verify_ledger", quiet=True)


class TestSeedLedger:
    def test_goes_on_where_it_was_stopped(self):
        organization = create_organization()
        begun = plan(organization)
        operations.seed_entries(plan=begun, limit=333)

        seed(organization)

        assert JournalEntry.objects.count() == 1_000
        call_command("verify_ledger", quiet=True)

    def test_makes_the_same_history_in_whatever_portions(self):
        both = [create_organization(), create_organization("Southwind")]
        for organization, chunk in zip(both, (1_000, 77), strict=True):
            seed(organization, chunk=chunk)

        seen = [
            list(
                Balance.objects.filter(organization_id=organization)
                .order_by("id").values_list("posted_debits", "posted_credits", "version")
            )
            for organization in both
        ]  # fmt: skip
        assert seen[0] == seen[1]

    def test_is_stopped_by_ctrl_c_between_two_chunks(self):
        organization = create_organization()
        arguments = ["--organization", encode_id("org", organization), "--postings", "40000"]

        with running(
            "manage.py", "seed_ledger", *arguments, "--accounts=40", "--chunk=50"
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
            assert "goes on from here" in process.stdout.read()

        made = Posting.objects.count()
        assert 0 < made < 40_000
        assert made % 100 == 0
        call_command("verify_ledger", quiet=True)
        seed(organization, postings=40_000, chunk=50_000)
        assert Posting.objects.count() == 40_000
        call_command("verify_ledger", quiet=True)

    def test_makes_an_organization_that_is_named_and_finds_it_again(self):
        for _ in range(2):
            call_command("seed_ledger", name="Made up", postings=100, accounts=5)

        [organization] = Organization.objects.filter(name="Made up", mode="live")
        totals = Posting.objects.filter(organization_id=organization.id).aggregate(
            count=Count("number"), residue=Sum("amount_minor")
        )
        assert totals == {"count": 100, "residue": 0}

    def test_makes_one_called_seeded_where_none_is_named(self):
        for _ in range(2):
            call_command("seed_ledger", "--postings=100", "--accounts=5")

        [organization] = Organization.objects.filter(name="Seeded", mode="live")
        assert Posting.objects.filter(organization_id=organization.id).count() == 100

    def test_refuses_to_go_on_with_other_numbers_where_none_is_named(self):
        call_command("seed_ledger", "--postings=100", "--accounts=5")

        with pytest.raises(CommandError, match="other numbers"):
            call_command("seed_ledger", "--postings=200", "--accounts=5")

        assert Posting.objects.count() == 100

    def test_refuses_an_organization_with_entries_of_its_own(self):
        organization = create_organization()
        fund(organization, open_account(organization, "wallets:w_1:EUR"), 5_00)

        with pytest.raises(CommandError, match="not made up"):
            seed(organization)

        assert JournalEntry.objects.count() == 1

    def test_refuses_to_go_on_with_other_numbers(self):
        organization = create_organization()
        seed(organization)

        with pytest.raises(CommandError, match="other numbers"):
            seed(organization, seed=2)

    @pytest.mark.parametrize(
        "odd",
        [
            {"postings": 0}, {"postings": 10**20}, {"accounts": 1}, {"accounts": 10**7},
            {"months": 0}, {"months": 601}, {"seed": 10**20}, {"name": ""}, {"name": " "},
            {"name": "\u202e"},
        ],
        ids=ascii,
    )  # fmt: skip
    def test_refuses_what_no_such_books_are_made_of_before_there_are_any(self, odd):
        [name] = odd

        with pytest.raises(CommandError, match=rf"^(--)?{name}: "):
            call_command("seed_ledger", **{"postings": 4, "accounts": 2, **odd})

        assert not Organization.objects.exists()

    def test_refuses_to_run_in_production(self, settings):
        organization = create_organization()
        settings.SETTINGS_MODULE = "config.settings.production"

        with pytest.raises(CommandError, match="production"):
            seed(organization)

        assert not LedgerAccount.objects.exists()

    def test_refuses_while_earlier_events_wait_for_the_relay(self):
        organization = create_organization()
        begun = plan(organization)
        open_account(organization, "wallets:new:EUR")

        with pytest.raises(StateConflict, match="relay"):
            operations.seed_entries(plan=begun, limit=10)
