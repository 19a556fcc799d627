"""The catalogue of events as a contract: examples, schemas, and what may not be taken back."""

import json
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, ClassVar, TypedDict
from uuid import UUID

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from jsonschema import Draft202012Validator

from apps.core import catalogue, versions
from apps.core.errors import InvariantBroken
from apps.core.events import Event, catalogued_events
from apps.core.management.commands import event_catalogue
from apps.payouts.events import OF_STATE


class Part(TypedDict):
    sku: str
    count: int
    "How many."


@dataclass(frozen=True, kw_only=True)
class Documented(Event):
    """Something was documented."""

    aggregate_type: ClassVar[str] = "thing"
    read_scope: ClassVar[str] = "webhooks:read"

    amount: int
    paid_at: datetime | None
    """When the money
    left."""
    tags: list[str]
    parts: list[Part]


@dataclass(frozen=True, kw_only=True)
class Derived(Documented):
    name: ClassVar[str] = "tests.thing.documented"
    example: ClassVar[dict[str, object]] = {
        "amount": 100,
        "paid_at": "2026-11-02T09:30:00Z",
        "tags": ["a"],
        "parts": [{"sku": "x", "count": 2}],
    }


def changed(name="tests.thing.documented", **members):
    """An event class as the next release might have it: a base's members, and these fields."""
    hints = members.pop("fields")
    told = {"name": name, "read_scope": "webhooks:read"}
    return dataclass(frozen=True, kw_only=True)(
        type("Changed", (Event,), {"__annotations__": hints, **told, **members})
    )


class TestExamples:
    @pytest.mark.parametrize("kind", catalogued_events(), ids=lambda kind: kind.name)
    def test_are_what_each_event_carries(self, kind):
        assert kind.example
        assert catalogue.list_example_faults(kind) == []

    def test_of_payouts_are_in_the_state_that_each_event_tells(self):
        assert [kind.example["state"] for kind in OF_STATE.values()] == [str(s) for s in OF_STATE]

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"amount": "100"}, "$.amount: '100' is not of type 'integer'"),
            ({"amount": 1.5}, "$.amount: 1.5 is not of type 'integer'"),
            ({"amount": True}, "$.amount: True is not of type 'integer'"),
            ({"amount": None}, "$.amount: None is not of type 'integer'"),
            ({"paid_at": "yesterday"}, "$.paid_at: 'yesterday' is not a 'date-time'"),
            (
                {"paid_at": "2026-11-02T09:30:00+02:00"},
                "$.paid_at: '2026-11-02T09:30:00+02:00' is not a 'date-time'",
            ),
            ({"tags": "a"}, "$.tags: 'a' is not of type 'array'"),
            ({"tags": [1]}, "$.tags[0]: 1 is not of type 'string'"),
            ({"parts": [{"sku": "x"}]}, "$.parts[0]: 'count' is a required property"),
            (
                {"iban": "FI21"},
                "$: Additional properties are not allowed ('iban' was unexpected)",
            ),
        ],
    )
    def test_that_do_not_fit_their_fields_are_told(self, monkeypatch, wrong, said):
        monkeypatch.setattr(Derived, "example", Derived.example | wrong)

        assert catalogue.list_example_faults(Derived) == [
            f"The example of tests.thing.documented is wrong at {said}"
        ]

    def test_that_lack_a_field_or_are_lacking_are_told(self, monkeypatch):
        short = {key: value for key, value in Derived.example.items() if key != "paid_at"}
        monkeypatch.setattr(Derived, "example", short)
        assert catalogue.list_example_faults(Derived) == [
            "The example of tests.thing.documented is wrong at $: 'paid_at' is a required property"
        ]

        monkeypatch.setattr(Derived, "example", {})
        assert catalogue.list_example_faults(Derived) == ["tests.thing.documented has no example."]

    def test_that_are_wrong_fail_the_check(self, monkeypatch):
        monkeypatch.setattr(OF_STATE["settled"], "example", {"id": 7})

        with pytest.raises(CommandError, match=r"payouts.payout.settled is wrong at \$.id"):
            call_command("event_catalogue", check=True)


class TestMeanings:
    def test_of_every_field_that_clients_get_are_told(self):
        public = [kind for kind in catalogued_events() if kind.public]

        assert [fault for kind in public for fault in catalogue.list_unexplained_fields(kind)] == []

    def test_that_are_missing_are_told_and_fail_the_check(self, monkeypatch):
        assert catalogue.list_unexplained_fields(Derived) == [
            f"tests.thing.documented does not say what its field {path} means."
            for path in ("tags", "parts", "parts[].sku")
        ]

        monkeypatch.delitem(catalogue.COMMON, "currency")
        with pytest.raises(CommandError, match=r"hold.voided does not say .* currency means"):
            call_command("event_catalogue", check=True)


class TestDataSchema:
    def test_tells_every_type_and_what_a_field_means(self):
        assert catalogue.data_schema(Derived) == {
            "type": "object",
            "properties": {
                "amount": {"type": "integer", "description": "In minor units of `currency`."},
                "paid_at": {
                    "type": ["string", "null"],
                    "format": "date-time",
                    "description": "When the money left.",
                },
                "tags": {"type": "array", "items": {"type": "string"}},
                "parts": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "sku": {"type": "string"},
                            "count": {"type": "integer", "description": "How many."},
                        },
                        "required": ["sku", "count"],
                    },
                },
            },
            "required": ["amount", "paid_at", "tags", "parts"],
        }

    def test_knows_the_other_types_that_events_have(self, monkeypatch):
        hints = {"day": date, "row": UUID, "is_on": bool, "more": dict[str, Any], "any": Any}
        monkeypatch.setattr(catalogue, "_texts_under_fields", lambda _class: {})

        schema = catalogue.data_schema(changed(fields=hints))

        Draft202012Validator.check_schema(schema)
        assert schema["properties"] == {
            "day": {"type": "string", "format": "date"},
            "row": {"type": "string", "format": "uuid"},
            "is_on": {"type": "boolean"},
            "more": {"type": "object"},
            "any": {},
        }

    def test_refuses_a_type_that_json_has_not(self, monkeypatch):
        monkeypatch.setattr(catalogue, "_texts_under_fields", lambda _class: {})

        with pytest.raises(InvariantBroken, match="amount of an event has the type float"):
            catalogue.data_schema(changed(fields={"amount": float}))


class TestPromises:
    @pytest.fixture(autouse=True)
    def _no_source(self, monkeypatch):
        # Classes made here have none to read texts from.
        monkeypatch.setattr(catalogue, "_texts_under_fields", lambda _class: {})

    WAS: ClassVar = {"amount": int, "payee": str | None}

    def broken(self, kind, *, was=None):
        locked = catalogue.lock_of([was or changed(fields=self.WAS, aggregate_type="thing")])
        # As it is read from its file.
        return catalogue.list_broken_promises(json.loads(json.dumps(locked)), [kind])

    def test_are_kept_by_a_field_more(self):
        kind = changed(fields={"note": str, **self.WAS}, aggregate_type="thing")

        assert self.broken(kind) == []

    def test_are_broken_by_a_field_less(self):
        kind = changed(fields={"amount": int}, aggregate_type="thing")

        [fault] = self.broken(kind)

        assert fault == (
            "thing.documented lost its field payee within schema version 1:"
            " raise its schema_version and register a downgrade, or leave it as it was."
        )

    @pytest.mark.parametrize(
        ("hint", "words"), [(str, "string"), (int | None, "integer or null"), (bool, "boolean")]
    )
    def test_are_broken_by_another_type(self, hint, words):
        kind = changed(fields={**self.WAS, "amount": hint}, aggregate_type="thing")

        [fault] = self.broken(kind)

        assert fault.startswith(f"amount of thing.documented was integer and is {words} within")

    def test_are_broken_within_an_object(self):
        class Less(TypedDict):
            sku: str

        was = changed(fields={"parts": list[Part]}, aggregate_type="thing")
        kind = changed(fields={"parts": list[Less]}, aggregate_type="thing")

        [fault] = self.broken(kind, was=was)

        assert fault.startswith("thing.documented lost its field parts[].count within")

    def test_are_broken_by_another_aggregate(self):
        kind = changed(fields=self.WAS, aggregate_type="item")

        [fault] = self.broken(kind)

        assert fault.startswith("thing.documented is about a item and was about a thing")

    def test_are_broken_by_an_event_that_is_gone_or_is_no_longer_public(self):
        other = changed(fields=self.WAS, aggregate_type="thing", name="tests.other.happened")

        assert self.broken(other) == [
            "thing.documented is gone, and whoever subscribed to it would wait for ever."
        ]

    def test_of_a_version_are_over_with_the_next_if_the_older_shape_is_still_written(
        self, monkeypatch
    ):
        kind = changed(fields={"amount": str}, aggregate_type="thing", schema_version=2)
        [fault] = self.broken(kind)
        assert fault.startswith(
            "thing.documented is of schema version 2 with 0 registered downgrades"
        )

        monkeypatch.setattr(versions, "_versions", [versions.NEWEST])
        monkeypatch.setattr(versions, "_downgrades", {})
        versions.register_downgrade(kind, version="2026-06-01", step=lambda data: data)

        assert self.broken(kind) == []

    def test_cannot_be_escaped_by_an_older_version(self):
        was = changed(fields=self.WAS, aggregate_type="thing", schema_version=3)
        kind = changed(fields={"amount": int}, aggregate_type="thing")

        assert self.broken(kind, was=was) == [
            "thing.documented went back from schema version 3 to 1."
        ]


class TestPage:
    def test_says_of_each_field_its_type_and_meaning_and_shows_an_example(self):
        page = event_catalogue.render([Derived])

        section = page[page.index("## ") :]
        assert section.strip() == (
            "## `thing.documented`\n\n"
            "Something was documented.\n\n"
            "Aggregate `thing`, since 2026-11-01, for a key with the scope `webhooks:read`.\n\n"
            "| Field | Type | Meaning |\n"
            "|---|---|---|\n"
            "| `amount` | integer | In minor units of `currency`. |\n"
            "| `paid_at` | instant or null | When the money left. |\n"
            "| `tags` | list of string |  |\n"
            "| `parts` | list of object |  |\n"
            "| `parts[].sku` | string |  |\n"
            "| `parts[].count` | integer | How many. |\n\n"
            "```json\n" + json.dumps(Derived.example, indent=2) + "\n```"
        )


class TestCommand:
    @pytest.fixture
    def docs(self, tmp_path, settings):
        settings.BASE_DIR = tmp_path
        docs = tmp_path / "docs"
        docs.mkdir()
        return docs

    def test_writes_every_public_event_and_no_internal_one(self, docs):
        call_command("event_catalogue", verbosity=0)

        page = (docs / "events.md").read_text()
        assert page.count("\n## ") == sum(kind.public for kind in catalogued_events())
        assert "approval.requested" not in page
        assert "approval.requested" not in json.loads((docs / "events.lock.json").read_text())

    @pytest.mark.parametrize("name", ["events.md", "events.lock.json"])
    def test_check_notices_a_drift(self, docs, name):
        with pytest.raises(CommandError, match=r"docs/events.md is out of date"):
            call_command("event_catalogue", check=True)
        call_command("event_catalogue", verbosity=0)
        call_command("event_catalogue", check=True)

        with (docs / name).open("a") as page:
            page.write("\n")

        with pytest.raises(CommandError, match=f"docs/{name} is out of date"):
            call_command("event_catalogue", check=True)

    @pytest.mark.parametrize("check", [True, False])
    def test_keeps_a_promise_that_an_event_would_break(self, docs, check):
        call_command("event_catalogue", verbosity=0)
        lock = docs / "events.lock.json"
        locked = json.loads(lock.read_text())
        locked["hold.voided"]["data"]["why"] = "string"
        lock.write_text(json.dumps(locked))
        before = lock.read_text()

        with pytest.raises(CommandError, match=r"hold.voided lost its field why"):
            call_command("event_catalogue", check=check)

        assert lock.read_text() == before

    def test_finds_the_repository_up_to_date(self):
        assert (Path(settings.BASE_DIR) / "docs" / "events.lock.json").exists()
        call_command("event_catalogue", check=True)
