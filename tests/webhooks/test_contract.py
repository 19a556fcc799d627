"""The documents that clients build on, held against what they are sent."""

from __future__ import annotations

import json
from functools import cache

import pytest
import yaml
from django.conf import settings
from jsonschema import Draft202012Validator

from apps.core.events import catalogued_events, public_type
from tests.ledger.factories import fund, open_account
from tests.webhooks.factories import create_customer, create_endpoint, deliver, relay

PUBLIC = {public_type(kind.name): kind for kind in catalogued_events() if kind.public}


@cache
def document():
    text = (settings.BASE_DIR / "docs" / "openapi.yaml").read_text()
    return yaml.load(text, Loader=yaml.CSafeLoader)


def faults(type_, body):
    """Return what of a webhook is not as the document has it."""
    told = document()["webhooks"][type_]["post"]["requestBody"]["content"]["application/json"]
    whole = {**told["schema"], "components": document()["components"]}
    return [str(each.message) for each in Draft202012Validator(whole).iter_errors(body)]


def body_of(type_):
    """Return a webhook as it could be, from the document's own example."""
    told = document()["webhooks"][type_]["post"]["requestBody"]["content"]["application/json"]
    properties = told["schema"]["allOf"][1]["properties"]
    [example] = properties["data"]["examples"]
    return {
        "id": "evt_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "type": type_,
        "timestamp": "2026-11-02T09:30:00Z",
        "api_version": "2026-11-01",
        "organization_id": "org_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "sequence": 1,
        "aggregate": {
            "type": properties["aggregate"]["properties"]["type"]["const"],
            "id": "po_01kb1mzxe5f0q8w3v6y2n4r7ta",
        },
        "data": example,
    }


class TestDocument:
    def test_tells_of_every_public_event_and_of_no_internal_one(self):
        assert list(document()["webhooks"]) == sorted(PUBLIC)

    @pytest.mark.parametrize("type_", sorted(PUBLIC))
    def test_takes_its_own_example_and_nothing_of_another_type(self, type_):
        body = body_of(type_)
        assert faults(type_, body) == []

        for name in body["data"]:
            wrong = body | {"data": body["data"] | {name: {"no": "such"}}}
            short = body | {"data": {key: body["data"][key] for key in body["data"] if key != name}}
            assert len(faults(type_, wrong)) == 1
            assert faults(type_, short) == [f"'{name}' is a required property"]
        assert faults(type_, body | {"type": "other.happened"}) == [f"'{type_}' was expected"]

    def test_lets_fields_pass_that_a_later_release_adds(self):
        body = body_of("payout.returned")

        assert faults("payout.returned", body | {"data": body["data"] | {"more": 1}}) == []


class TestWebhook:
    def test_is_as_the_document_has_it(self, organization, far):
        create_endpoint(organization, far.url)
        create_customer(organization)
        wallet = open_account(organization.id, "wallets:ann:EUR")
        fund(organization.id, wallet, 100_00)
        relay()

        assert deliver() == len(far.requests) > 0

        bodies = [json.loads(request.body) for request in far.requests]
        assert {body["type"] for body in bodies} >= {"customer.created", "journal_entry.posted"}
        assert [fault for body in bodies for fault in faults(body["type"], body)] == []
