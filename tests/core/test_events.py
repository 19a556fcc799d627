"""Events: named after what happened, declared once, and written down for those who listen."""

import re
from dataclasses import fields
from typing import get_type_hints

import pytest
from django.apps import apps

from apps.core import catalogue, checks, events
from apps.core.errors import InvariantBroken
from apps.core.events import catalogued_events, public_type

# What may never leave: names, bank details, secrets, and what risk thinks.
PRIVATE = re.compile(r"(^|_)(iban|bic|name|email|phone|secret|password|score|rule|screening|pan)$")


@pytest.fixture(params=catalogued_events(), ids=lambda kind: kind.name)
def kind(request):
    return request.param


class TestEveryEvent:
    def test_is_named_app_noun_past_participle(self, kind):
        app, noun, happened = kind.name.split(".")

        assert f"apps.{app}" in {config.name for config in apps.get_app_configs()}
        assert kind.__module__ == f"apps.{app}.events"
        assert re.fullmatch("[a-z_]+", noun)
        assert re.fullmatch("[a-z_]+", happened)

    def test_fits_its_columns(self, kind):
        assert len(kind.name) <= 100
        assert len(kind.aggregate_type) <= 50

    def test_carries_nothing_private(self, kind):
        names = [field.path.rpartition(".")[2] for field in catalogue.list_fields(kind)]

        assert [name for name in names if PRIVATE.search(name)] == []

    def test_carries_types_that_json_has(self, kind):
        hints = get_type_hints(kind)
        own = [field.name for field in fields(kind) if field.name not in events._ENVELOPE]

        assert [name for name in own if hints[name] is float] == []
        assert not any(name.endswith("_minor") for name in own)


class TestEventClasses:
    def test_have_unique_names_and_public_types(self):
        names = [kind.name for kind in catalogued_events()]
        types = [public_type(kind.name) for kind in catalogued_events() if kind.public]

        assert len(names) == len(set(names))
        assert len(types) == len(set(types))

    def test_are_those_of_the_apps_whatever_was_imported(self):
        assert {name.partition(".")[0] for name in (kind.name for kind in catalogued_events())} >= {
            "accounts",
            "approvals",
            "banking",
            "ledger",
            "payouts",
            "webhooks",
        }

    def test_have_a_public_type_without_the_app(self):
        assert public_type("payouts.payout.returned") == "payout.returned"
        with pytest.raises(InvariantBroken, match="past_participle"):
            public_type("payout.returned")


class TestSystemCheck:
    def test_finds_nothing_in_what_is_declared(self):
        assert checks.event_names_are_sound() == []

    def test_finds_the_misnamed_and_the_doubled(self, monkeypatch):
        wrong = [
            _made("payouts.payout.returned", module="apps.payouts.events"),
            _made("payments.payout.returned", module="apps.payments.events"),
            _made("ledger.entry.posted", module="apps.payouts.events"),
            _made("payouts.returned2.x", module="apps.payouts.events"),
        ]
        monkeypatch.setattr(checks, "catalogued_events", lambda: wrong)

        found = [(error.msg, error.id) for error in checks.event_names_are_sound()]

        assert found == [
            ("payouts.payout.returned is declared twice.", "kassa.E003"),
            ("payments.payout.returned is declared twice.", "kassa.E003"),
            ("ledger.entry.posted is misnamed.", "kassa.E002"),
            ("payouts.returned2.x is misnamed.", "kassa.E002"),
        ]

    def test_finds_no_event_that_every_key_may_read(self):
        assert checks.events_have_a_reader() == []

    def test_finds_a_public_event_whose_scope_no_route_asks_for(self, monkeypatch):
        wrong = [
            _made("payouts.payout.returned", read_scope="payouts:read"),
            _made("payouts.payout.split", read_scope="payouts:reed"),
            _made("payouts.payout.lost", read_scope=""),
            _made("payouts.payout.seen", read_scope="", public=False),
        ]
        monkeypatch.setattr(checks, "catalogued_events", lambda: wrong)

        found = [(error.msg, error.id) for error in checks.events_have_a_reader()]

        assert found == [
            ("No route asks for the read_scope of payouts.payout.split.", "kassa.E006"),
            ("No route asks for the read_scope of payouts.payout.lost.", "kassa.E006"),
        ]


def _made(name, *, module="apps.payouts.events", public=True, **more):
    # Like an event, and none: whoever lists the events must not meet it.
    return type("Made", (), {"name": name, "public": public, "__module__": module, **more})
