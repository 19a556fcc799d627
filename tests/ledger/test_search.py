"""Finding entries and postings: every lane against a plain reading of all rows, page by page."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.ledger.models import EntryMetadata, JournalEntry, MonthlyTotal, Posting
from apps.ledger.queries import Ask, Place, Search, Window, list_entries, list_postings
from apps.ledger.queries import _bounds as bounds
from apps.ledger.queries._account_lane import _version_ranges
from tests.ledger.clients import ApiClient, printed
from tests.ledger.factories import NOW, create_organization, move, open_account, post
from tests.ledger.histories import Move, write_history

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = 30


@pytest.fixture
def books():
    """Two organisations with the same kinds, metadata and times, the entries of one annotated."""
    for name in ("Northwind", "Other"):
        organization = create_organization(name)
        ann = open_account(organization, "wallets:ann:EUR", floor=None)
        bob = open_account(organization, "wallets:bob:EUR", floor=None)
        for number in range(ROWS):
            # Business times are out of order, some in the future, some the same.
            effective = NOW + timedelta(hours=[-900, -3, -3, 2, -30, 800][number % 6])
            pair = (ann, bob) if number % 4 else (bob, ann)
            post(
                organization,
                move(
                    *pair, 100 + number % 5, effective_at=effective,
                    kind=["transfer", "fx", "sweep"][number % 3],
                    reference=f"r-{number}" if number % 2 else None,
                    metadata={"odd": str(number % 2), "n": str(number)} if number % 3 else {},
                ),
            )  # fmt: skip
        for number, entry in enumerate(ordered(organization)):
            if number % 7 == 0:
                annotate(organization, entry.id, {"odd": "later"})
    return organization, ann, bob


def ordered(organization):
    return list(JournalEntry.objects.filter(organization_id=organization).order_by("id"))


def annotate(organization, entry, metadata):
    EntryMetadata.objects.create(
        organization_id=organization, entry_id=entry, number=1, metadata=metadata, actor="job:x"
    )


class Rows:
    """Every row of the books, read once."""

    def __init__(self, organization) -> None:
        self.entries = {e.id: e for e in JournalEntry.objects.filter(organization_id=organization)}
        self.postings = list(Posting.objects.filter(organization_id=organization))
        self.later = {m.entry_id: m.metadata for m in EntryMetadata.objects.all()}


def expected_postings(rows: Rows, search: Search) -> list[Posting]:
    """Return what a search means, by looking at every row, newest first."""
    entries, later = rows.entries, rows.later

    def matches(posting: Posting) -> bool:
        entry = entries[posting.entry_id]
        metadata = later.get(entry.id, entry.metadata)
        return (
            search.account_id in {None, posting.account_id}
            and search.reference in {None, entry.reference}
            and search.kind in {None, entry.kind}
            and acted(search.actor, entry.actor)
            and search.currency in {None, posting.currency}
            and dict(search.metadata).items() <= metadata.items()
            and inside(search.effective, entry.effective_at)
            and inside(search.recorded, entry.recorded_at)
            and (search.amount_min is None or abs(posting.amount_minor) >= search.amount_min)
            and (search.amount_max is None or abs(posting.amount_minor) <= search.amount_max)
        )

    def newest_first(posting: Posting) -> tuple:
        entry = entries[posting.entry_id]
        keys = {
            "account_version": (posting.account_version,),
            "effective_at": (entry.effective_at, entry.id),
            "recorded_at": (entry.recorded_at, entry.id),
            "id": (entry.id,),
        }
        return keys[search.order]

    found = sorted(filter(matches, rows.postings), key=lambda posting: posting.number)
    return sorted(found, key=newest_first, reverse=True)


def acted(asked: str | None, actor: str) -> bool:
    return asked is None or actor == asked or (asked[-1] == ":" and actor.startswith(asked))


def inside(window: Window, instant: datetime) -> bool:
    return (window.starts_at is None or instant >= window.starts_at) and (
        window.ends_at is None or instant < window.ends_at
    )


def walk(listing, search: Search, limit: int, *, newer_from: Place | None = None):
    """Return all rows of a listing by its cursors, and the pages it took."""
    rows, pages, place = [], 0, newer_from
    newer = newer_from is not None
    while True:
        found = listing(search=search, ask=Ask(limit, place, newer=newer))
        rows = [*found.rows, *rows] if newer else [*rows, *found.rows]
        pages += 1
        assert len(found.rows) <= limit
        assert pages < 500
        following = found.newer if newer else found.older
        if following is None:
            return rows, found
        # A cursor is text and is read back.
        place = Place.from_bytes(following.to_bytes())


def check(search: Search, limit: int, rows_of_all: Rows | None = None) -> int:
    """See that both listings give what is meant, forwards and backwards; return how many rows."""
    postings = expected_postings(rows_of_all or Rows(search.organization_id), search)
    keys = [(p.entry_id, p.number) for p in postings]
    entry_ids = list(dict.fromkeys(p.entry_id for p in postings))

    rows, last = walk(list_entries, search, limit)
    assert [row.id for row in rows] == entry_ids
    if last.newer is not None:
        back, _ = walk(list_entries, search, limit, newer_from=last.newer)
        assert [row.id for row in back] == entry_ids[: len(entry_ids) - len(last.rows)]

    found, last_page = walk(list_postings, search, limit)
    assert [(row.entry_id, row.number) for row in found] == keys
    if last_page.newer is not None:
        back, _ = walk(list_postings, search, limit, newer_from=last_page.newer)
        assert [(r.entry_id, r.number) for r in back] == keys[: len(keys) - len(last_page.rows)]
    return len(keys)


WINDOWS = {
    "open": {},
    "effective": {"effective": Window(NOW - timedelta(hours=40), NOW + timedelta(hours=3))},
    "effective from": {"effective": Window(NOW - timedelta(hours=3))},
    "effective before": {"effective": Window(None, NOW - timedelta(hours=2))},
    "recorded": {"recorded": Window(NOW - timedelta(days=1), NOW + timedelta(days=9999))},
    "recorded before": {"recorded": Window(None, NOW + timedelta(days=9999))},
}
FILTERS = {
    "none": {},
    "kind": {"kind": "fx"},
    "transfers": {"kind": "transfer"},
    "metadata": {"metadata": {"odd": "1"}},
    "present metadata": {"metadata": {"odd": "later"}},
    "two of metadata": {"metadata": {"odd": "0", "n": "4"}},
    "reference": {"reference": "r-7"},
    "nothing": {"reference": "r-7", "kind": "fx"},
    "amount": {"amount_min": 102, "amount_max": 103},
    "least": {"amount_min": 104},
    "actor": {"actor": "job:tests", "kind": "sweep"},
    "half an actor": {"actor": "job:test"},
    "kind of actor": {"actor": "job:"},
    "currency": {"currency": "EUR", "amount_min": 103},
    "another currency": {"currency": "USD"},
    "most": {"amount_max": 100, "metadata": {"odd": "1"}},
}


class TestEveryLane:
    @pytest.mark.parametrize(
        ("width", "every"),
        # Each filter and each window is in every fifth; narrow pages are many.
        [("wide", 1), ("narrow", 5), pytest.param("narrow", 1, marks=pytest.mark.soak)],
    )
    @pytest.mark.parametrize("whose", ["all", "one account's"])
    def test_gives_what_is_meant_page_by_page(self, books, width, every, whose, monkeypatch):
        organization, ann, _ = books
        if width == "narrow":
            # Every page looks at three rows, knows two candidates, and goes one step in time.
            monkeypatch.setattr(bounds, "SCAN_ROWS_MAX", 3)
            monkeypatch.setattr(bounds, "CANDIDATES_MAX", 2)
            monkeypatch.setattr(bounds, "PATIENCE_SECONDS", 0)
            monkeypatch.setattr(bounds, "STEP_FIRST", timedelta(days=9))
            monkeypatch.setattr(bounds, "LOOK_UPS_MAX", 0)
            monkeypatch.setattr(bounds, "EARLIEST", NOW - timedelta(days=60))
        total, rows = 0, Rows(organization)

        searches = [*product(WINDOWS.values(), FILTERS.values())][::every]
        for number, (window, more) in enumerate(searches):
            search = Search(
                organization_id=organization,
                now=NOW,
                account_id=ann if whose != "all" else None,
                **window,
                **more,
            )
            # Of wide pages each fifth search has more: what only some filters leave fills them.
            limit = 3 if width == "narrow" else 13 if number % 5 else 8
            total += check(search, limit, rows)

        assert total > ROWS

    @pytest.mark.parametrize("patience", [0, 60])
    @pytest.mark.parametrize("days", [20, 1, -20])
    def test_of_a_window_without_a_begin_finds_what_an_import_brought_of_any_year(
        self, books, monkeypatch, days, patience
    ):
        organization, _, _ = books
        monkeypatch.setattr(bounds, "SCAN_ROWS_MAX", 3)
        monkeypatch.setattr(bounds, "PATIENCE_SECONDS", patience)
        monkeypatch.setattr(bounds, "STEP_FIRST", timedelta(days=9))
        # Some rows, most, or all of them are of before the year that a client may name.
        monkeypatch.setattr(bounds, "EARLIEST", NOW - timedelta(days=days))
        search = Search(
            organization_id=organization, now=NOW,
            effective=Window(ends_at=NOW + timedelta(hours=1)),
        )  # fmt: skip

        # Four of six entries, of two postings each.
        assert check(search, 2) == check(search, 7) == ROWS // 6 * 4 * 2

    def test_of_an_account_is_narrowed_by_its_sealed_months(self, books, monkeypatch):
        organization, ann, _ = books
        monkeypatch.setattr(bounds, "SCAN_ROWS_MAX", 3)
        seal(organization, ann, versions=20)
        window = Window(NOW - timedelta(hours=901), NOW - timedelta(hours=899))
        search = Search(organization_id=organization, now=NOW, account_id=ann, effective=window)

        assert _version_ranges(search, ann) == [(1, 19), (21, ROWS)]
        assert check(search, 2) == 5

    def test_of_an_account_finds_its_recorded_window_by_bisection(self):
        """Wider by a minute: the server's clock is set back by less here, now and then."""
        organization = create_organization()
        ann = open_account(organization, "wallets:ann:EUR", floor=None)
        bob = open_account(organization, "wallets:bob:EUR", floor=None)
        # 0, 50, 25, 45, 95, 70, …
        steps = [0, 30, -45] * 10
        instants = [NOW + timedelta(seconds=sum(steps[1 : n + 1]) + 20 * n) for n in range(ROWS)]
        write_history(organization, [Move(ann, bob, 1, at, at) for at in instants])

        for start, end in product(sorted(instants)[::6], repeat=2):
            window = Window(start, end + timedelta(seconds=1))
            search = Search(organization_id=organization, now=NOW, account_id=ann, recorded=window)
            meant = [at for at in instants if start <= at <= end]

            assert check(search, 4) == len(meant)
            ranges = _version_ranges(search, ann)
            read = sum(last - first + 1 for first, last in ranges)
            early, late = start - timedelta(minutes=2), end + timedelta(minutes=2)
            assert read <= sum(early <= at <= late for at in instants)


def seal(organization, account, *, versions: int):
    """Write the totals of an account's first versions, as the sealer does."""
    postings = Posting.objects.filter(account_id=account, account_version__lte=versions)
    rows: dict[tuple, list[int]] = {}
    for posting in postings:
        for clock in ("effective", "recorded"):
            month = getattr(posting, f"{clock}_at").astimezone(UTC).date().replace(day=1)
            rows.setdefault((clock, month), []).append(posting.account_version)
    for (clock, month), seen in rows.items():
        MonthlyTotal.objects.create(
            organization_id=organization, account_id=account, clock=clock, month=month,
            debits_minor=0, credits_minor=0, postings=len(seen), first_version=min(seen),
            last_version=max(seen),
        )  # fmt: skip


class TestApi:
    def found(self, api, path="/v1/journal-entries", **query):
        response = api.get(path, **query)
        assert response.status_code == 200, response.content
        return response.json()

    @pytest.fixture
    def api(self):
        api = ApiClient()
        # Without a floor: what is posted here is dated before any money came.
        api.ann = open_account(api.organization, "wallets:cara:EUR", floor=None)
        for number in range(5):
            post(
                api.organization,
                move(
                    api.ann, api.bob, 10 + number, reference=f"r-{number}",
                    effective_at=NOW - timedelta(days=number),
                    metadata={"order": str(number), "an odd [key]": "å"},
                ),
            )  # fmt: skip
        return api

    def test_entries_are_found_by_metadata_in_the_query(self, api):
        page = self.found(api, **{"metadata[order]": "3", "metadata[an odd [key]]": "a\u030a"})

        assert [entry["reference"] for entry in page["data"]] == ["r-3"]
        assert self.found(api, **{"metadata[order]": "9"})["data"] == []

    @pytest.mark.parametrize("path", ["journal-entries", "postings", "transfers"])
    def test_are_found_by_a_reference_however_its_characters_are_written(self, api, path):
        made = api.post(
            "/v1/transfers",
            {
                "debit_account": printed(api.ann), "credit_account": printed(api.bob),
                "amount": 1, "currency": "EUR", "reference": "bra\u030a-1",
            },
        )  # fmt: skip

        assert made.json()["reference"] == "br\u00e5-1"
        for written in ("bra\u030a-1", "br\u00e5-1"):
            rows = self.found(api, f"/v1/{path}", reference=written)["data"]
            assert {row["reference"] for row in rows} == {"br\u00e5-1"}

    def test_are_found_by_what_has_spaces_of_other_widths_in_it(self, api):
        """No-break and ideographic spaces are let in, so they can be asked for."""
        made = api.post(
            "/v1/transfers",
            {
                "debit_account": printed(api.ann), "credit_account": printed(api.bob),
                "amount": 1, "currency": "EUR", "reference": "n\u00b0\u00a07",
                "metadata": {"station": "\u6771\u4eac\u3000\u99c5"},
            },
        )  # fmt: skip

        for query in (
            {"reference": "n\u00b0\u00a07"},
            {"metadata[station]": "\u6771\u4eac\u3000\u99c5"},
        ):
            [found] = self.found(api, **query)["data"]
            assert found["id"] == made.json()["id"]

    def test_entries_of_a_business_window_are_sorted_by_it(self, api):
        page = self.found(
            api,
            effective_from="2026-10-30T00:00:00+00:00",
            effective_before="2026-11-02T00:00:00Z",
        )

        assert [entry["reference"] for entry in page["data"]] == ["r-1", "r-2", "r-3"]

    def test_postings_are_found_by_amount(self, api):
        of_ann = self.found(api, "/v1/postings", ledger_account=printed(api.ann), amount="12")
        in_window = self.found(
            api, "/v1/postings", amount_min="11", amount_max="12",
            effective_from="2026-10-20T00:00:00Z", effective_before="2026-11-20T00:00:00Z",
        )  # fmt: skip

        [posting] = of_ann["data"]
        entry = api.get(f"/v1/journal-entries/{posting['journal_entry']}").json()
        assert (posting["amount"], posting["reference"], posting["number"]) == (12, "r-2", 1)
        assert posting.items() >= entry["postings"][0].items()
        assert [p["amount"] for p in in_window["data"]] == [11, -11, 12, -12]

    def test_pages_go_there_and_back(self, api):
        for path in ("/v1/journal-entries", "/v1/postings"):
            first = self.found(api, path, limit="2")
            second = self.found(api, path, limit="2", after=first["next"])
            back = self.found(api, path, limit="2", before=second["previous"])

            assert back["data"] == first["data"]
            assert first["data"][1] not in second["data"]
            assert (first["previous"], first["has_more"]) == (None, True)

    @pytest.mark.parametrize(
        ("query", "named"),
        [
            ({"amount": "12"}, "amount"),
            ({"amount_min": "12"}, "amount_min"),
            (
                {
                    "amount": "12",
                    "effective_from": "2026-10-01T00:00:00Z",
                    "effective_before": "2026-11-01T00:00:01Z",
                },
                "amount",
            ),
            ({"amount": "12", "effective_from": "2026-10-01T00:00:00Z"}, "amount"),
            *(({"ledger_account": "LA", "amount": text}, "amount")
              for text in ("0", "-1", "1.0", "1e3", "x", "", "٣", "9" * 15)),
            ({"ledger_account": "LA", "amount": "1", "amount_max": "2"}, "amount"),
            ({"ledger_account": "LA", "amount_min": "3", "amount_max": "2"}, "amount_max"),
            ({"effective_from": "2026-10-01"}, "effective_from"),
            ({"created_before": "yesterday"}, "created_before"),
            (
                {
                    "created_from": "2026-10-02T00:00:00Z",
                    "created_before": "2026-10-01T00:00:00Z",
                },
                "created_before",
            ),
            ({"metadata[]": "x"}, "metadata[]"),
            ({"reference": "x" + "\u0323" * 5}, "reference"),
            ({"kind": "x" + "\u0323" * 5}, "kind"),
            ({"metadata[a\u202eb]": "x"}, "metadata[a\u202eb]"),
            ({"metadata[a]": "x" * 501}, "metadata[a]"),
            ({f"metadata[{n}]": "x" for n in range(11)}, "metadata"),
        ],
    )  # fmt: skip
    def test_name_the_parameter_that_is_wrong(self, api, query, named):
        query = {name: printed(api.ann) if v == "LA" else v for name, v in query.items()}
        for path in ("/v1/journal-entries", "/v1/postings"):
            response = api.get(path, **query)

            assert response.status_code == 400
            assert (response.json()["code"], response.json()["parameter"]) == (
                "invalid_request", named,
            )  # fmt: skip

    def test_take_as_many_statements_for_a_long_page_as_for_a_short_one(self, api):
        for path in ("/v1/journal-entries", "/v1/postings"):
            # The first request of all also looks its key up.
            self.found(api, path)
            counts = []
            for limit in ("2", "50"):
                with CaptureQueriesContext(connection) as statements:
                    self.found(api, path, limit=limit)
                counts.append(len(statements))
            assert counts[0] == counts[1] <= 12

    def test_refuse_names_they_do_not_know_and_cursors_of_other_lists(self, api):
        first = self.found(api, limit="1")

        assert api.get("/v1/journal-entries", colour="red").status_code == 400
        assert api.get("/v1/journal-entries", ledger_account="la_x").status_code == 400
        for query in (
            {"after": first["next"], "ledger_account": printed(api.ann)},
            {"after": first["next"], "effective_from": "2026-10-01T00:00:00Z"},
            {"after": "x"},
        ):
            response = api.get("/v1/journal-entries", **query)
            assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")
        assert api.get("/v1/postings", after=first["next"]).status_code == 400

    def test_show_nothing_of_another_organization(self, api):
        other = ApiClient()

        for path in ("/v1/journal-entries", "/v1/postings"):
            for query in (
                {"reference": "r-1"},
                {"metadata[order]": "3"},
                {"effective_before": "2026-11-01T09:00:00Z"},
            ):
                assert self.found(api, path, **query)["data"] != []
                assert self.found(other, path, **query)["data"] == []

    @pytest.mark.parametrize(
        "path",
        ["journal-entries", "postings", "transfers", "holds", "balances", "balance-monitors"],
    )
    def test_narrowed_to_an_account_of_another_organization_are_404(self, api, path):
        other = ApiClient()

        mine = api.get(f"/v1/{path}", ledger_account=printed(api.ann))
        theirs = other.get(f"/v1/{path}", ledger_account=printed(api.ann))

        assert mine.status_code == 200
        assert (theirs.status_code, theirs.json()["code"]) == (404, "ledger_account_not_found")
