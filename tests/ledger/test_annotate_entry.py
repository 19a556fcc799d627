"""Metadata given to an entry later: a history, and the newest counts."""

import hashlib
from functools import partial

import pytest

from apps.core.idempotency import IdempotencyKeyReused
from apps.core.ids import encode_id
from apps.core.invariants import breaches
from apps.core.models import AuditEvent, OutboxEvent
from apps.ledger import operations, queries
from apps.ledger.errors import JournalEntryNotFound
from apps.ledger.models import EntryMetadata, JournalEntry
from tests.ledger.clients import ApiClient, code_of, pointers, printed
from tests.ledger.factories import (
    ACTOR,
    NOW,
    create_organization,
    fund,
    open_account,
    post_transfer,
)
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR")
    bob = open_account(organization, "wallets:bob:EUR")
    fund(organization, ann, 100_00)
    entry = post_transfer(organization, ann, bob, 1, key="t", metadata={"a": "1"}).entry_id
    return organization, entry


def annotate(organization, entry, metadata, *, key="k"):
    return operations.annotate_entry(
        organization_id=organization,
        entry_id=entry,
        metadata=metadata,
        idempotency_key=key,
        actor=ACTOR,
        now=NOW,
    )


def numbers(entry) -> list[int]:
    rows = EntryMetadata.objects.filter(entry_id=entry).order_by("number")
    return [row.number for row in rows]


class TestAnnotateEntry:
    def test_counts_from_now_on_and_leaves_the_entry_as_it_was(self, books):
        organization, entry = books

        annotate(organization, entry, {"b": "2"}, key="1")
        annotate(organization, entry, {"c": "3"}, key="2")

        view = queries.get_entry(organization_id=organization, entry_id=entry)
        assert view.metadata == {"c": "3"}
        assert JournalEntry.objects.get(id=entry).metadata == {"a": "1"}
        history = queries.list_entry_metadata(
            organization_id=organization, entry_id=entry, limit=10
        )
        assert [(v.number, v.metadata) for v in history] == [
            (2, {"c": "3"}), (1, {"b": "2"}), (0, {"a": "1"}),
        ]  # fmt: skip
        told = OutboxEvent.objects.filter(aggregate_id=encode_id("je", entry)).order_by("sequence")
        assert [(e.type, e.sequence) for e in told] == [
            ("journal_entry.posted", 1),
            ("journal_entry.annotated", 2),
            ("journal_entry.annotated", 3),
        ]
        assert told.last().data == {"number": 2, "keys": ["c"]}
        trail = AuditEvent.objects.filter(act="ledger.annotate_entry").latest("id")
        assert trail.before == {"number": 1, "keys": ["b"]}
        assert trail.after == {
            "number": 2,
            "keys": ["c"],
            # Of {"c":"3"}: it proves what was said, and does not say it.
            "digest": hashlib.sha256(b'{"c":"3"}').hexdigest(),
        }
        assert breaches() == []

    def test_with_an_empty_object_takes_all_away(self, books):
        organization, entry = books

        annotate(organization, entry, {})

        assert queries.get_entry(organization_id=organization, entry_id=entry).metadata == {}

    def test_of_another_organizations_entry_is_refused(self, books):
        _, entry = books

        with pytest.raises(JournalEntryNotFound):
            annotate(create_organization("Other"), entry, {"b": "2"})

        assert numbers(entry) == []

    def test_replayed_adds_nothing_and_another_request_names_the_entry(self, books):
        organization, entry = books

        first = annotate(organization, entry, {"b": "2"})
        second = annotate(organization, entry, {"b": "2"})
        with pytest.raises(IdempotencyKeyReused) as refused:
            annotate(organization, entry, {"b": "3"})

        assert first == second == entry
        assert numbers(entry) == [1]
        assert refused.value.details["resource"] == encode_id("je", entry)

    @pytest.mark.parametrize("turn", range(5))
    def test_at_once_is_numbered_without_a_gap(self, books, turn):
        organization, entry = books

        race(*(partial(annotate, organization, entry, {"n": str(n)}, key=f"k-{n}")
               for n in range(4)))  # fmt: skip

        assert numbers(entry) == [1, 2, 3, 4]
        assert breaches() == []


class TestApi:
    @pytest.fixture
    def api(self):
        return ApiClient()

    @pytest.fixture
    def path(self, api):
        body = {
            "debit_account": printed(api.ann), "credit_account": printed(api.bob),
            "amount": 1, "currency": "EUR", "metadata": {"n": "0"},
        }  # fmt: skip
        entry = api.post("/v1/transfers", body, key="t").json()["id"]
        return f"/v1/journal-entries/{entry}"

    def test_gives_shows_and_finds_what_counts(self, api, path):
        created = api.post(f"{path}/metadata", {"metadata": {"n": "1"}})
        again = api.post(f"{path}/metadata", {"metadata": {"n": "1"}})

        assert created.status_code == 201, created.content
        assert created.json()["metadata"] == {"n": "1"}
        assert again.json() == created.json() == api.get(path).json()
        assert again["Idempotent-Replayed"] == "true"
        found = [
            len(api.get("/v1/journal-entries", **{"metadata[n]": n}).json()["data"]) for n in "01"
        ]
        assert found == [0, 1]

    def test_pages_its_history_there_and_back(self, api, path):
        for n in range(1, 5):
            api.post(f"{path}/metadata", {"metadata": {"n": str(n)}}, key=f"k-{n}")

        def page(**query):
            found = api.get(f"{path}/metadata", limit="2", **query).json()
            return found, [version["number"] for version in found["data"]]

        first, numbers_of_first = page()
        second, numbers_of_second = page(after=first["next"])
        third, numbers_of_third = page(after=second["next"])
        _, back = page(before=third["previous"])
        start, numbers_of_start = page(before=second["previous"])

        assert (numbers_of_first, numbers_of_second, numbers_of_third) == ([4, 3], [2, 1], [0])
        assert (back, numbers_of_start) == ([2, 1], [4, 3])
        assert (first["previous"], third["next"], start["previous"]) == (None, None, None)
        assert third["data"][0]["metadata"] == {"n": "0"}

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({}, "/metadata"),
            ({"metadata": []}, "/metadata"),
            ({"metadata": {"a": 1}}, "/metadata/a"),
            ({"metadata": {}, "x": 1}, "/x"),
        ],
    )
    def test_names_the_field_of_bad_input(self, api, path, body, pointer):
        response = api.post(f"{path}/metadata", body)

        assert (response.status_code, pointers(response)) == (400, [pointer])

    def test_of_another_organization_is_not_there(self, api, path):
        other = ApiClient()

        for response in (
            other.get(f"{path}/metadata"),
            other.post(f"{path}/metadata", {"metadata": {"a": "b"}}),
        ):
            assert code_of(response) == (404, "journal_entry_not_found")
        assert ApiClient("ledger:read").post(f"{path}/metadata", {}).status_code == 403
