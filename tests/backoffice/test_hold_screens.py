"""The screens of holds: what reserves money, what became of it, and who may look."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from apps.accounts.models import Organization
from apps.core import clock
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.ledger import operations
from apps.ledger.models import HoldEvent
from apps.ledger.rules import CaptureHold, PlaceHold, VoidHold
from tests.accounts import factories as accounts
from tests.ledger.factories import committed, create_organization, open_account

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/ledger/hold/"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
IBAN = "DE89370400440532013000"
_ID = re.compile(r'href="/admin/ledger/hold/(ho_\w+)/"')


class Books:
    """Two customers and two accounts of a bank, and somebody from finance signed in."""

    def __init__(self) -> None:
        self.id = create_organization()
        self.ann, self.bob = (
            open_account(self.id, f"customers:{who}:EUR", floor=None) for who in ("ann", "bob")
        )
        self.main, self.spare = (
            open_account(self.id, f"bank:{which}:EUR", type_="asset", floor=None)
            for which in ("main", "spare")
        )
        self.mara = accounts.create_staff("finance_maker")
        self.client = Client()
        self.client.force_login(self.mara)

    @committed
    def post(self, *commands: object, at: datetime | None = None) -> None:
        operations.post(
            organization_id=self.id,
            commands=commands,
            actor=Actor.staff(self.mara.pk),
            now=at or clock.now(),
        )

    def place(self, amount: int = 10_00, *, at: datetime | None = None, **more: object) -> str:
        """Reserve money of Ann for Bob, unless told; return the hold's printed id."""
        sides = {"debit_account_id": self.ann, "credit_account_id": self.bob}
        hold = PlaceHold(id=new_id(), currency="EUR", amount_minor=amount, **sides | more)
        self.post(hold, at=at)
        self.last = hold.id
        return encode_id("ho", hold.id)

    def capture(self, amount: int | None = None) -> str:
        """Capture of the last hold; return the entry's printed id."""
        entry = new_id()
        self.post(CaptureHold(hold_id=self.last, entry_id=entry, kind="x", amount_minor=amount))
        return encode_id("je", entry)

    def void(self) -> None:
        self.post(VoidHold(hold_id=self.last))

    def page(self, path: str = LIST, **query: str) -> str:
        with CaptureQueriesContext(connection) as asked:
            answer = self.client.get(path, query)
        assert answer.status_code == 200, path
        self.asked, self.sql = len(asked), "\n".join(one["sql"] for one in asked)
        return unescape(answer.content.decode())

    def listed(self, **query: str) -> list[str]:
        """Return the printed ids on a page of the list, from above."""
        return list(dict.fromkeys(_ID.findall(self.page(**query))))

    def hold(self, printed: str) -> str:
        return self.page(f"{LIST}{printed}/")


@pytest.fixture
def books() -> Books:
    return Books()


def read(html: str) -> str:
    return " ".join(strip_tags(html.replace("<wbr>", "").replace("<", " <")).split())


def timeline(text: str) -> list[list[str]]:
    """Return the rows of a hold's timeline but for their times."""
    table = text.split("<h2>Timeline</h2>", maxsplit=1)[1].split("</table>", maxsplit=1)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:]
    return [[read(cell) for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)][1:] for row in rows]


class TestTheListOfHolds:
    def test_opens_with_what_is_open_by_the_clock(self, books):
        now = clock.now()
        plain = books.place()
        later = books.place(expires_at=now + DAY)
        # Placed in time, over since, and no sweeper came by.
        over = books.place(at=now - 2 * HOUR, expires_at=now - HOUR)
        done = books.place()
        books.capture()
        voided = books.place()
        books.void()

        assert books.listed() == [later, plain]
        assert books.listed(status="open") == [later, plain]
        assert books.listed(status="expired") == [over]
        assert books.listed(status="captured") == [done]
        assert books.listed(status="voided") == [voided]
        assert books.listed(status="all") == [voided, done, over, later, plain]

    def test_shows_whose_money_for_whom_and_how_much_is_left(self, books):
        printed = books.place(20_00, multi_capture=True, reference="order 1")
        books.capture(4_00)

        [row] = [row for row in re.findall(r"<tr>.*?</tr>", books.page(), re.DOTALL)
                 if printed in row]  # fmt: skip

        assert "customers:ann → customers:bob order 1 20.00 EUR 4.00 EUR 16.00 EUR open" in read(
            row
        )
        for account in (books.ann, books.bob):
            assert f"/admin/ledger/ledgeraccount/{encode_id('la', account)}/" in row

    def test_of_assets_says_where_money_leaves(self, books):
        books.place(debit_account_id=books.spare, credit_account_id=books.main)

        assert "bank:main → bank:spare" in read(books.page())

    @pytest.mark.parametrize("by", ["id", "code"])
    def test_is_narrowed_to_the_money_of_one_account(self, books, by):
        anns = books.place()
        bobs = books.place(debit_account_id=books.bob, credit_account_id=books.ann)
        mains = books.place(debit_account_id=books.spare, credit_account_id=books.main)

        codes = {"ann": "customers:ann:EUR", "bob": "customers:bob:EUR", "main": "bank:main:EUR"}
        for name, expected in (("ann", anns), ("bob", bobs), ("main", mains)):
            account = encode_id("la", getattr(books, name)) if by == "id" else codes[name]
            assert books.listed(organization=str(books.id), account=account) == [expected]

    def test_is_narrowed_to_days_of_the_organization(self, books):
        Organization.objects.filter(id=books.id).update(time_zone="Pacific/Auckland")
        # A quarter to noon in London is the evening before midnight in New Zealand, in winter.
        before = datetime(2026, 7, 1, 11, 45, tzinfo=UTC)
        late = books.place(at=before, expires_at=before + 500 * DAY)
        early = books.place(at=before + HOUR / 2, expires_at=before + 501 * DAY)
        own = {"organization": str(books.id)}

        assert books.listed(**own, placed_until="2026-07-01") == [late]
        assert books.listed(**own, placed_from="2026-07-02", placed_until="2026-07-02") == [early]
        day = (before + 500 * DAY).astimezone(UTC).date()
        # Summer there: one hour more.
        assert books.listed(**own, expires_from=f"{day + DAY}", expires_until=f"{day + DAY}") == [
            late
        ]

    def test_shows_a_hold_that_a_client_placed_for_ever_where_clocks_are_ahead(self, books):
        """One that east of UTC would end after the last instant that there is."""
        Organization.objects.filter(id=books.id).update(time_zone="Pacific/Auckland")
        other = books.place()
        printed = books.place(expires_at=datetime.max.replace(tzinfo=UTC))

        assert books.listed() == [printed, other]
        account = books.page(f"/admin/ledger/ledgeraccount/{encode_id('la', books.ann)}/")
        for text in (books.page(), books.hold(printed), account):
            assert "31 Dec 9999 <small>23:59 UTC</small>" in text

    def test_looks_so_far_back_for_what_has_ended_and_says_so(self, books):
        own = {"organization": str(books.id)}
        old = books.place(at=clock.now() - 200 * DAY)
        books.void()

        text = books.page(**own, status="voided")
        assert "placed in 92 days" in text
        assert old not in text
        assert books.listed(**own, status="voided", account="customers:ann:EUR") == [old]
        until = f"{clock.now() - 150 * DAY:%Y-%m-%d}"
        assert books.listed(**own, status="voided", placed_until=until) == [old]

    @pytest.mark.parametrize(
        ("query", "notice"),
        [
            ({"account": "la_nonsense"}, "There is no account la_nonsense in these books."),
            ({"placed_from": "x"}, "x is no day such as 2026-06-30."),
            ({"expires_from": "2026-07-02", "expires_until": "2026-07-01"},
             "The last day is not before the first."),
        ],
    )  # fmt: skip
    def test_says_what_it_cannot_read(self, books, query, notice):
        books.place()

        text = books.page(organization=str(books.id), **query)

        assert notice in text
        assert "No row fits these filters." in text

    def test_finds_an_id_or_a_reference_whatever_the_filters_say(self, books):
        # A payout's: under a client's own there is one.
        one = books.place(reference="payout:order 7")
        books.void()
        again = books.place(reference="payout:order 7")

        assert books.listed(q=one) == [one]
        assert books.listed(q="payout:order 7", status="open") == [again, one]
        assert books.listed(q="order 8") == []
        # The index of references begins with the organization.
        assert '"ledger_hold"."organization_id" IN (' in books.sql
        assert books.listed(q="ho_nonsense") == []

    def test_goes_page_by_page_and_asks_as_little_for_many_as_for_one(self, books):
        first = books.place()
        assert books.listed() == [first]
        alone = books.asked
        newest = [books.place() for _ in range(119)][::-1]
        every = [*newest, first]

        text, seen = books.page(), []
        assert books.asked == alone
        assert "Count the rows" in text
        while True:
            seen += list(dict.fromkeys(_ID.findall(text)))
            following = re.search(r'rel="next" href="\?after=([^"]+)"', text)
            if following is None:
                break
            text = books.page(after=following[1])
            assert books.asked == alone
        assert seen == every
        back = re.search(r'rel="prev" href="\?before=([^"]+)"', text)
        assert books.listed(before=back[1]) == every[50:100]
        assert "120 rows" in books.page(count="1")

    def test_masks_an_account_number_in_a_reference(self, books):
        printed = books.place(reference=f"rent {IBAN}", metadata={"to": IBAN})

        for text in (books.page(), books.hold(printed)):
            assert IBAN not in text
            assert "3000" in text
        assert books.listed(q=f"rent {IBAN}") == [printed]

    @pytest.mark.parametrize("chosen", ["all", "", "nobody"])
    def test_names_the_one_organization_that_is_searched(self, books, chosen):
        other = Books()
        by_id = {}
        for each in (books, other):
            by_id[str(each.id)] = each.place()
            each.void()

        text = books.page(status="voided", organization=chosen)

        select = text.split('name="organization"', maxsplit=1)[1].split("</select>", maxsplit=1)[0]
        [named] = re.findall(r'value="([^"]*)" selected', select)
        assert "All" not in select
        assert list(dict.fromkeys(_ID.findall(text))) == [by_id[named]]

    def test_looks_so_far_back_for_when_any_was_to_expire(self, books):
        now = clock.now()
        books.place(at=now - 100 * DAY, expires_at=now + DAY)
        last = books.place(expires_at=now + DAY)
        asked = {"status": "all", "expires_from": f"{now - DAY:%Y-%m-%d}"}

        text = books.page(**asked)

        assert _ID.findall(text)[0] == last
        assert len(dict.fromkeys(_ID.findall(text))) == 1
        assert "placed in 92 days" in read(text)
        assert len(books.listed(**asked, account=encode_id("la", books.ann))) == 2


class TestAHoldsPage:
    def test_tells_what_happened_to_it_and_leads_to_the_entries(self, books):
        printed = books.place(20_00, multi_capture=True, metadata={"order": "7"})
        entries = [books.capture(4_00), books.capture(5_00)]
        text = books.hold(printed)

        facts = read(text)
        for fact in ("Amount 20.00 EUR", "Captured 9.00 EUR", "Held 11.00 EUR", "in parts",
                     "order 7", "From customers:ann:EUR To customers:bob:EUR"):  # fmt: skip
            assert fact in facts
        who = str(books.mara)
        assert [(row[0], row[1], row[3]) for row in timeline(text)] == [
            ("placed", "20.00 EUR", who),
            ("captured", "4.00 EUR", who),
            ("captured", "5.00 EUR", who),
        ]
        for entry in entries:
            assert f'href="/admin/ledger/journalentry/{entry}/"' in text

        books.void()

        text = books.hold(printed)
        assert [row[:2] for row in timeline(text)][-1] == ["voided", "11.00 EUR"]
        assert "voided 0.00 EUR held" in read(text)

    def test_is_over_by_the_clock_before_a_job_has_said_so(self, books):
        now = clock.now()
        printed = books.place(at=now - 2 * HOUR, expires_at=now - HOUR)

        text = books.hold(printed)

        assert "expired 0.00 EUR held" in read(text)
        assert "Its time is over" in text
        assert [row[0] for row in timeline(text)] == ["placed"]

        operations.expire_holds(organization_id=books.id, now=now)
        assert HoldEvent.objects.filter(kind="expired").count() == 1
        text = books.hold(printed)
        assert "Its time is over" not in text
        assert [row[0] for row in timeline(text)] == ["placed", "expired"]

    def test_asks_as_little_for_many_captures_as_for_one(self, books):
        printed = books.place(500_00, multi_capture=True)
        books.capture(1_00)
        books.hold(printed)
        alone = books.asked
        for _ in range(101):
            books.capture(1_00)

        text = books.hold(printed)

        assert books.asked == alone
        rows = timeline(text)
        assert len(rows) == 100
        # Everybody who is shown is named, however much came after.
        assert {row[3] for row in rows} == {str(books.mara)}
        assert "The first 100;" in text
        assert "Captured 102.00 EUR" in read(text)

    def test_has_no_act(self, books):
        printed = books.place()

        assert "/act/" not in books.hold(printed)
        assert books.client.post(f"{LIST}{printed}/act/void/").status_code == 404


class TestWhoMayLook:
    def test_is_who_may_see_the_books_of_that_organization(self, books):
        printed = books.place(reference="mine")
        other = Books()
        [theirs] = Organization.objects.filter(id=other.id)
        narrow = accounts.create_staff("finance_maker", organizations=[theirs], sees_all=False)
        books.client.force_login(narrow)

        for query in ({}, {"q": printed}, {"q": "mine"}, {"organization": str(books.id)},
                      {"status": "all", "organization": str(books.id)}):  # fmt: skip
            assert books.listed(**query) == []
        assert books.client.get(f"{LIST}{printed}/").status_code == 404

    def test_is_nobody_who_may_not_see_the_books(self, books):
        printed = books.place()
        books.client.force_login(accounts.create_staff("support"))

        assert books.client.get(LIST).status_code == 403
        assert books.client.get(f"{LIST}{printed}/").status_code == 403


class TestWhatLeadsToAHold:
    def test_is_the_page_of_its_account_and_of_an_entry_that_captured_it(self, books):
        printed = books.place(multi_capture=True)
        entry = books.capture(1_00)
        account = encode_id("la", books.ann)

        text = books.page(f"/admin/ledger/ledgeraccount/{account}/")

        assert f'href="{LIST}{printed}/"' in text
        every = f"organization={books.id}&account={account}&status=all"
        assert f'href="{LIST}?{every}"' in text
        assert books.listed(**dict(one.split("=") for one in every.split("&"))) == [printed]
        assert f'href="{LIST}{printed}/"' in books.page(f"/admin/ledger/journalentry/{entry}/")

    def test_is_the_search_of_every_page(self, books):
        printed = books.place()

        answer = books.client.post("/admin/find/", {"text": printed})

        assert (answer.status_code, answer["Location"]) == (302, f"{LIST}{printed}/")
