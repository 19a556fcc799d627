"""The hooks of providers: who is believed, what is kept, and what strangers can cost."""

from __future__ import annotations

import io
from datetime import timedelta
from functools import partial
from hashlib import sha256
from ipaddress import IPv6Address
from secrets import randbits

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError
from django.test import Client

from apps.core import clock, encryption
from apps.core.ids import encode_id, new_id
from apps.core.models import AuditEvent
from apps.webhooks import registry
from apps.webhooks.errors import (
    ConnectionNotFound,
    SecretLimitReached,
    SecretMalformed,
    UnknownProvider,
)
from apps.webhooks.models import InboundEvent, ProviderConnection, ProviderSecret, RefusedCall
from apps.webhooks.operations import add_provider_connection, receive_event
from apps.webhooks.rules.inbound import Reading
from tests.accounts.factories import create_organization
from tests.support import past_the_guards, race
from tests.webhooks.factories import TESTS
from tests.webhooks.inbox import (
    NEXT,
    OTHERS,
    PRIVATE,
    SECRET,
    connect,
    headers_of,
    kept,
    message,
    path_of,
    post,
    refused,
    replace_secret,
    tell,
)


def body_of(event):
    return encryption.unseal(
        event.organization_id, "webhooks_inboundevent.sealed_body", event.id, event.sealed_body
    ).encode("latin-1")


class TestTaking:
    def test_keeps_what_a_provider_signed(self, organization, connection):
        body = message("thing.opened", "thing_1")

        answer = tell(connection, body, message_id="msg_1")

        assert (answer.status_code, answer.json()) == (200, {"status": "received"})
        [event] = kept()
        assert event.organization_id == organization.id
        assert (event.provider, event.event_id) == ("sandbox", "msg_1")
        assert (event.type, event.object_key) == ("thing.opened", "thing_1")
        assert (event.state, event.outcome) == ("pending", "received")
        assert refused() == {}

    def test_seals_the_bytes_as_they_came(self, connection):
        body = message() + b" \xc3\xa9\n"

        tell(connection, body)

        [event] = kept()
        assert PRIVATE.encode() not in bytes(event.sealed_body)
        assert body_of(event) == body

    def test_answers_a_repeat_alike_and_keeps_it_once(self, connection):
        answers = [tell(connection, message_id="msg_1") for _ in range(3)]

        assert {(each.status_code, each.content) for each in answers} == {
            (200, b'{"status":"received"}')
        }
        assert len(kept()) == 1

    def test_keeps_one_of_ten_that_come_at_once(self, connection):
        answers = race(*[partial(tell, connection, message_id="msg_1")] * 10)

        assert [each.status_code for each in answers] == [200] * 10
        assert len(kept()) == 1

    def test_keeps_once_what_is_fetched_from_the_provider_as_well(self, connection):
        body = message("thing.opened", "thing_1")
        fetch = partial(
            receive_event,
            connection=connection,
            reading=Reading(type="thing.opened", object_key="thing_1", event_id="msg_1"),
            body=body,
            now=clock.now(),
        )

        race(fetch, partial(tell, connection, body, message_id="msg_1"), fetch)

        [event] = kept()
        assert (event.event_id, event.object_key, body_of(event)) == ("msg_1", "thing_1", body)

    def test_takes_a_mebibyte(self, connection):
        body = message(more="x" * (1024 * 1024 - len(message(more=""))))
        assert len(body) == 1024 * 1024

        assert tell(connection, body).status_code == 200

        [event] = kept()
        assert body_of(event) == body

    def test_keeps_the_first_of_two_bodies_under_one_id(self, connection):
        tell(connection, message(key="thing_1"), message_id="msg_1")
        tell(connection, message(key="thing_2"), message_id="msg_1")

        assert [event.object_key for event in kept()] == ["thing_1"]

    def test_tells_organizations_apart(self, connection):
        other = connect(create_organization())

        tell(connection, message_id="msg_1")
        tell(other, message_id="msg_1")

        assert {event.organization_id for event in kept()} == {
            connection.organization_id,
            other.organization_id,
        }

    def test_believes_either_of_two_valid_secrets(self, connection):
        replace_secret(connection, NEXT)

        assert tell(connection, secrets=(SECRET,)).status_code == 200
        assert tell(connection, secrets=(NEXT,)).status_code == 200
        assert tell(connection, secrets=(OTHERS, NEXT)).status_code == 200
        assert len(kept()) == 3

    def test_keeps_an_authentic_message_that_it_cannot_read(self, connection):
        for body in (b"", b"not json", b"[]", b'{"type": 7}', b'{"type": "a b"}', b'{"a":1,"a":2}'):
            assert tell(connection, body).status_code == 200

        assert [(event.type, event.object_key) for event in kept()] == [("unreadable", "")] * 6

    def test_knows_a_message_without_an_id_by_its_bytes(self, connection, monkeypatch):
        nameless = registry.Provider("sandbox", lambda _envelope, _body: Reading(type="thing"))
        monkeypatch.setitem(registry._providers, "sandbox", nameless)

        for message_id in ("msg_1", "msg_2"):
            tell(connection, b"{}", message_id=message_id)
        tell(connection, b"{ }", message_id="msg_1")

        assert [event.event_id for event in kept()] == [
            f"sha256:{sha256(body).hexdigest()}" for body in (b"{}", b"{ }")
        ]


class TestRefusing:
    @pytest.fixture(autouse=True)
    def _nothing_is_kept(self, transactional_db):
        yield
        assert kept() == []

    def test_a_wrong_signature_leaves_a_number_and_nothing_else(self, connection, monkeypatch):
        # Over midnight they would be counted for two days.
        now = clock.now()
        monkeypatch.setattr(clock, "now", lambda: now)
        for _ in range(3):
            answer = tell(connection, secrets=(OTHERS,))
            assert answer.status_code == 401
            assert answer.json()["code"] == "signature_invalid"
            assert answer["WWW-Authenticate"] == "Webhook-Signature"

        [row] = RefusedCall.objects.all()
        assert (row.organization_id, row.connection_id) == (
            connection.organization_id,
            connection.id,
        )
        assert (row.day, row.reason, row.count) == (now.date(), "signature_invalid", 3)

    def test_refusals_at_once_are_each_counted(self, connection):
        race(*[partial(tell, connection, secrets=(OTHERS,))] * 8)

        assert refused() == {"signature_invalid": 8}

    @pytest.mark.parametrize("seconds", [-600, -302, 302, 600])
    def test_a_clock_that_is_off_is_told_so(self, connection, seconds):
        answer = tell(connection, at=clock.now() + timedelta(seconds=seconds))

        assert answer.status_code == 401
        assert answer.json()["code"] == "timestamp_out_of_range"
        assert abs(answer.json()["server_time"] - clock.now().timestamp()) < 60
        assert refused() == {"timestamp_out_of_range": 1}

    def test_a_secret_that_expired_is_not_believed(self, connection):
        replace_secret(connection, NEXT, overlap_seconds=60)
        past_the_guards(
            "UPDATE webhooks_providersecret SET expires_at = now() - interval '1 second'"
            " WHERE expires_at IS NOT NULL"
        )

        assert tell(connection, secrets=(SECRET,)).json()["code"] == "signature_invalid"

    def test_another_bodys_signature_is_not_believed(self, connection):
        signed = headers_of(message(), message_id="msg_1")

        answer = post(connection, message(key="thing_2"), headers=signed)

        assert answer.json()["code"] == "signature_invalid"

    @pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
    def test_a_missing_header_is_a_wrong_signature(self, connection, name):
        signed = headers_of(message(), message_id="msg_1")
        del signed[name]

        answer = post(connection, message(), headers=signed)

        assert (answer.status_code, answer.json()["code"]) == (401, "signature_invalid")

    def test_another_organizations_secret_is_not_believed(self, connection):
        other = connect(create_organization(), secret=OTHERS)

        assert tell(connection, secrets=(OTHERS,)).status_code == 401
        assert tell(other, secrets=(SECRET,)).status_code == 401

    def test_what_is_nobodys_is_not_found(self, connection):
        unknown = ProviderConnection(id=new_id())

        for path in (
            path_of(unknown),
            path_of(connection, provider="stripe"),
            path_of(connection).replace("pvc_", "whe_"),
            "/hooks/sandbox",
            "/hooks/",
        ):
            answer = tell(connection, path=path)
            assert answer.status_code == 404, path
            assert answer["Content-Type"] == "application/problem+json"
        assert tell(connection, path="/hooks/sandbox/nonsense").status_code == 400
        assert refused() == {}

    def test_only_a_post_is_taken(self, connection):
        answer = Client().get(path_of(connection))

        assert (answer.status_code, answer["Allow"]) == (405, "POST")

    def test_a_body_over_one_mebibyte_is_not_read(self, connection):
        answer = tell(connection, b"x" * (1024 * 1024 + 1))

        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")

    def test_a_compressed_body_is_not_opened(self, connection):
        answer = tell(connection, headers={"content-encoding": "gzip"})

        assert answer.status_code == 415

    def test_a_stranger_is_slowed_down_and_others_are_not(self, connection, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 5
        settings.WEB_PROCESSES = 1
        # Where nobody has called from: what an address asked is remembered for hours.
        address, elsewhere = (str(IPv6Address(randbits(128))) for _ in range(2))

        flood = [tell(connection, secrets=(OTHERS,), REMOTE_ADDR=address) for _ in range(8)]

        codes = [answer.status_code for answer in flood]
        assert codes == [401] * 5 + [429] * 3
        assert int(flood[-1]["Retry-After"]) > 0
        assert tell(connection, secrets=(OTHERS,), REMOTE_ADDR=elsewhere).status_code == 401
        assert refused() == {"signature_invalid": 6}

    def test_an_answer_is_data_that_nobody_keeps(self, connection):
        answer = tell(connection, secrets=(OTHERS,))

        assert answer["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer["Content-Security-Policy"]


class TestSecrecy:
    def test_neither_body_nor_secret_is_ever_logged(self, connection, caplog, capfd):
        with caplog.at_level("DEBUG"):
            tell(connection)
            tell(connection, secrets=(OTHERS,))
            tell(connection, b"not json " + PRIVATE.encode())

        said = caplog.text + "".join(capfd.readouterr())
        for word in ("Lovelace", "DE8937", SECRET.removeprefix("whsec_"), OTHERS[6:]):
            assert word not in said

    def test_a_secret_is_stored_sealed(self, connection):
        [row] = ProviderSecret.objects.all()

        assert SECRET.encode() not in bytes(row.sealed)


class TestConnecting:
    def test_is_audited_without_the_secret(self, connection):
        row = AuditEvent.objects.get(act="webhooks.add_provider_connection")

        assert row.after == {"provider": "sandbox", "name": "Cards"}
        assert row.subject_id == str(connection.id)

    def test_is_done_once_per_key(self, organization):
        call = partial(
            add_provider_connection,
            organization_id=organization.id,
            provider="sandbox",
            name="Cards",
            secret=SECRET,
            idempotency_key="once",
            actor=TESTS,
            now=clock.now(),
        )

        assert len({made.id for made in race(*[call] * 4)}) == 1
        assert ProviderSecret.objects.count() == 1

    @pytest.mark.parametrize(
        ("wrong", "refusal"),
        [({"provider": "stripe"}, UnknownProvider), ({"secret": "whsec_x"}, SecretMalformed)],
    )
    def test_refuses_what_could_not_work(self, organization, wrong, refusal):
        asked = {"provider": "sandbox", "name": "Cards", "secret": SECRET} | wrong

        with pytest.raises(refusal):
            add_provider_connection(
                organization_id=organization.id,
                **asked,
                idempotency_key="k",
                actor=TESTS,
                now=clock.now(),
            )

        assert ProviderConnection.objects.count() == 0


class TestReplacingASecret:
    def test_with_no_overlap_ends_the_one_before_at_once(self, connection):
        replace_secret(connection, NEXT, overlap_seconds=0)

        assert tell(connection, secrets=(SECRET,)).status_code == 401
        assert tell(connection, secrets=(NEXT,)).status_code == 200

    def test_never_leaves_more_than_three_believed(self, connection):
        for number in range(2):
            replace_secret(connection, f"whsec_{'A' * 31}{number}")

        with pytest.raises(SecretLimitReached):
            replace_secret(connection, NEXT)

        assert ProviderSecret.objects.count() == 3

    def test_is_for_the_organization_alone(self, connection):
        stranger = create_organization()
        connection.organization_id = stranger.id

        with pytest.raises(ConnectionNotFound):
            replace_secret(connection, NEXT)

        assert ProviderSecret.objects.count() == 1


class TestGuards:
    @pytest.fixture
    def event(self, connection):
        tell(connection)
        return kept()[0]

    @pytest.mark.parametrize(
        "change",
        [
            {"event_id": "another"},
            {"type": "another"},
            {"object_key": "another"},
            {"received_at": clock.now()},
            {"sealed_body": b"another"},
            {"outcome": "applied"},
            {"state": "done"},
            {"state": "failed"},
        ],
    )
    def test_what_was_told_is_never_told_otherwise(self, event, change):
        with pytest.raises(DatabaseError):
            InboundEvent.objects.filter(id=event.id).update(**change)

    def test_it_is_not_deleted_before_its_time(self, event):
        with pytest.raises(IntegrityError, match="kept for 400 days"):
            InboundEvent.objects.all().delete()

    def test_it_belongs_to_its_connections_organization(self, event):
        with pytest.raises(IntegrityError, match="inbound_event_is_of_its_connection"):
            InboundEvent.objects.create(
                organization=create_organization(),
                connection_id=event.connection_id,
                provider="sandbox",
                event_id="msg_x",
                type="thing",
                received_at=clock.now(),
            )


class TestCommand:
    def run(self, monkeypatch, secret, *arguments, **options):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{secret}\n"))
        said = io.StringIO()
        call_command("provider_connection", *arguments, **options, stdout=said)
        return said.getvalue().strip()

    def test_prints_the_path_of_a_hook_that_works(self, organization, monkeypatch):
        path = self.run(monkeypatch, SECRET, organization.name, "sandbox", name="Cards")

        made = ProviderConnection.objects.get()
        assert path == path_of(made)
        assert tell(made, path=path).status_code == 200

    def test_replaces_a_secret(self, connection, monkeypatch):
        self.run(
            monkeypatch,
            NEXT,
            connection.organization.name,
            "sandbox",
            replace=encode_id("pvc", connection.id),
            overlap_seconds=0,
        )

        assert tell(connection, secrets=(NEXT,)).status_code == 200
        assert tell(connection, secrets=(SECRET,)).status_code == 401

    @pytest.mark.parametrize(
        ("secret", "provider", "said"),
        [("nonsense", "sandbox", "A secret is"), (SECRET, "stripe", "no such provider")],
    )
    def test_says_what_is_wrong(self, organization, monkeypatch, secret, provider, said):
        with pytest.raises(CommandError, match=said):
            self.run(monkeypatch, secret, organization.name, provider)

        assert ProviderConnection.objects.count() == 0
