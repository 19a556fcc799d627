"""Looking for ledger accounts: by an id or the whole code, and by how a code begins."""

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.core.ids import encode_id
from apps.ledger import queries
from apps.ledger.operations import AccountSpec, open_accounts
from tests.accounts import factories as accounts
from tests.ledger.factories import NOW, committed, create_organization, open_account

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/ledger/ledgeraccount/"


class Books:
    """Accounts whose codes begin alike, and somebody who looks for them."""

    def __init__(self) -> None:
        self.id = create_organization()
        for code in (
            "wallets:a_1:EUR", "wallets:a_1:USD", "wallets:ab1:EUR", "wallets:a:EUR",
            "wallets_old:a_1:EUR", "fees:wallets:EUR",
        ):  # fmt: skip
            open_account(self.id, code, floor=None)
        self.client = Client()
        self.client.force_login(accounts.create_staff("finance_maker"))

    def get(self, **query: str) -> str:
        with CaptureQueriesContext(connection) as asked:
            answer = self.client.get(LIST, query)
        self.asked = [one["sql"] for one in asked]
        assert answer.status_code == 200
        return answer.content.decode()

    def found(self, **query: str) -> list[str]:
        codes = {
            encode_id("la", row.id): row.code for row in queries.accounts(organization_id=self.id)
        }
        ids = re.findall(rf'href="{LIST}(la_\w+)/"', self.get(**query))
        return [codes[id_] for id_ in ids if id_ in codes]


@pytest.fixture
def books() -> Books:
    return Books()


class TestFind:
    def test_takes_an_id_or_the_whole_code(self, books):
        row = queries.accounts(organization_id=books.id).get(code="wallets:ab1:EUR")

        for text in (encode_id("la", row.id), row.code):
            assert books.found(q=text) == [row.code]
        for text in ("la_0", "wallets:ab1", "wallets:", "%", "WALLETS:AB1:EUR"):
            assert books.found(q=text) == []
        assert 'placeholder="la_… or the whole code"' in books.get(q="x")

    def test_over_all_screens_opens_a_whole_code_and_takes_no_part_of_one(self, books):
        row = queries.accounts(organization_id=books.id).get(code="wallets:a:EUR")

        opened = books.client.post("/admin/find/", {"text": "wallets:a:EUR"})
        part = books.client.post("/admin/find/", {"text": "wallets:a"})

        assert (opened.status_code, opened.url) == (302, f"{LIST}{encode_id('la', row.id)}/")
        assert part.status_code == 200
        assert "No row that you may see has this id or reference" in part.content.decode()


class TestHowACodeBegins:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("wallets:a_1:EUR", ["wallets:a_1:EUR"]),
            ("wallets:a_1", ["wallets:a_1:EUR", "wallets:a_1:USD"]),
            ("wallets:a_", ["wallets:a_1:EUR", "wallets:a_1:USD"]),
            (
                "wallets:",
                ["wallets:a:EUR", "wallets:a_1:EUR", "wallets:a_1:USD", "wallets:ab1:EUR"],
            ),
            ("fe", ["fees:wallets:EUR"]),
            # Neither the middle of a code nor a pattern.
            ("a_1", []), ("%wallets", []), ("%", []), ("_", []), ("wallets:%1", []),
            ("w_llets", []), ("wallets:a\\_1", []), ("WALLETS", []), ("wallets:a_1:EUR:", []),
        ],
    )  # fmt: skip
    def test_is_taken_as_it_is_written(self, books, text, found):
        assert books.found(code=text) == found

    def test_is_narrowed_further(self, books):
        assert books.found(code="wallets:", currency="USD") == ["wallets:a_1:USD"]

    def test_goes_by_the_index_of_codes(self, books):
        # Of a handful of accounts every way costs the same, and statistics of other tests decide.
        committed(open_accounts)(
            organization_id=books.id, now=NOW,
            accounts=[
                AccountSpec(f"shops:s_{n:04}:EUR", "liability", "EUR", None) for n in range(1_000)
            ],
        )  # fmt: skip
        books.found(code="wallets:a_")
        [read] = [sql for sql in books.asked if "LIKE" in sql]

        assert re.search(r"LIKE\s+E?'wallets:a\\+_%'", read)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE ledger_account, accounts_organization")
            cursor.execute(f"EXPLAIN {read}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert re.search(r"ledger_account_code_is_unique.*\n\s+Index Cond: .*>= 'wallets:a_'", plan)

    def test_asks_as_much_for_many_as_for_few_and_goes_on_page_by_page(self, books):
        books.found(code="wallets:")
        few = len(books.asked)
        codes = [f"wallets:many:w{n:03}:EUR" for n in range(120)]
        committed(open_accounts)(
            organization_id=books.id, now=NOW,
            accounts=[AccountSpec(code, "liability", "EUR", None) for code in codes],
        )  # fmt: skip

        seen, after = [], ""
        while True:
            seen += books.found(code="wallets:many:w", after=after)
            assert len(books.asked) == few
            following = re.search(r'rel="next" href="\?[^"]*after=([\w-]+)', books.get(
                code="wallets:many:w", after=after
            ))  # fmt: skip
            if following is None:
                break
            after = following[1]

        assert seen == codes

    def test_shows_no_account_of_an_organization_one_does_not_see(self, books):
        elsewhere = accounts.create_staff(
            "finance_maker", organizations=[accounts.create_organization()], sees_all=False
        )
        books.client.force_login(elsewhere)

        assert books.found(code="wallets:") == []
