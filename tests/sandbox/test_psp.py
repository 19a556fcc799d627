"""The provider's events on the wire, judged by the package of the standard and not by Kassa."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.webhooks import receiver
from tests.webhooks.receiver import Receiver

NEW, OLD = (f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2))


@pytest.fixture
def far():
    with Receiver() as listening:
        yield listening


@pytest.fixture
def psp(bank, far):
    status, made = bank.post("/psp/hooks", {"url": far.url, "secrets": [NEW, OLD]})
    assert (status, made["secrets"]) == (201, [NEW, OLD])
    return bank


def make(psp, id_="pspe_1", type_="payment.captured", key="pay_1"):
    status, made = psp.post("/psp/events", {"type": type_, "id": id_, "data": {"id": key}})
    assert status == 202
    return made


def verified(received, secret=NEW):
    return Webhook(secret).verify(received.body, received.headers)


class TestEvents:
    def test_are_signed_as_the_standard_says(self, psp, far):
        made = make(psp)

        [received] = far.requests
        assert made == {
            "id": "pspe_1",
            "sent": [{"event_id": "pspe_1", "url": far.url, "status": 200}],
        }
        assert received.headers["webhook-id"] == "pspe_1"
        content = verified(received)
        assert (content["type"], content["data"]) == ("payment.captured", {"id": "pay_1"})
        with pytest.raises(WebhookVerificationError):
            verified(received, OLD)

    def test_are_answered_as_the_receiver_answers(self, psp, far):
        far.answers = [receiver.answer("401 No"), receiver.hang_up]

        statuses = [make(psp, id_)["sent"][0]["status"] for id_ in ("pspe_1", "pspe_2")]

        assert statuses == [401, 0]

    def test_are_sent_again_with_the_same_bytes(self, psp, far):
        make(psp)

        psp.post("/psp/events/resend", {"id": "pspe_1"})

        first, second = far.requests
        assert (first.body, first.headers["webhook-id"]) == (
            second.body,
            second.headers["webhook-id"],
        )
        assert verified(second)

    def test_outlive_the_process(self, psp, far):
        psp.misbehave("delay_event")
        make(psp)

        psp.kill()
        psp.start()
        psp.post("/psp/events/release", {})

        assert far.ids() == ["pspe_1"]


class TestBehaviours:
    @pytest.mark.parametrize("at_once", [False, True])
    def test_duplicates_are_the_same_message(self, psp, far, at_once):
        psp.misbehave("duplicate_event", copies=5, at_once=at_once)

        made = make(psp)
        make(psp, "pspe_2")

        assert len(made["sent"]) == 5
        assert far.ids() == ["pspe_1"] * 5 + ["pspe_2"]
        assert len({each.body for each in far.requests}) == 2

    def test_reordered_is_what_the_next_one_overtook(self, psp, far):
        psp.misbehave("reorder_event", match={"type": "payment.authorized"})

        assert make(psp, "pspe_1", "payment.authorized")["sent"] == []
        make(psp, "pspe_2")

        assert far.ids() == ["pspe_2", "pspe_1"]

    def test_dropped_is_never_sent_and_can_be_fetched(self, psp, far):
        psp.misbehave("drop_event", match={"object": "pay_1"})

        make(psp)
        psp.post("/psp/events/release", {})

        assert far.requests == []
        [listed] = psp.get("/psp/events?after=0")["events"]
        assert listed["event"]["id"] == "pspe_1"
        assert psp.get(f"/psp/events?after={listed['number']}")["events"] == []

    def test_a_wrong_signature_convinces_nobody(self, psp, far):
        psp.misbehave("wrong_signature")

        make(psp)

        for secret in (NEW, OLD):
            with pytest.raises(WebhookVerificationError):
                verified(far.requests[0], secret)

    @pytest.mark.parametrize("options", [{}, {"seconds": 600}, {"seconds": -600}])
    def test_an_old_timestamp_is_signed_all_the_same(self, psp, far, options):
        now = datetime.now(UTC)  # noqa: TID251  (the other process reads the machine's clock)
        psp.misbehave("old_timestamp", **options)

        make(psp)

        [received] = far.requests
        at = datetime.fromtimestamp(int(received.headers["webhook-timestamp"]), UTC)
        wanted = now - timedelta(seconds=options.get("seconds", 301))
        assert abs(at - wanted) < timedelta(seconds=60)
        signed = Webhook(NEW).sign("pspe_1", at, received.body.decode())
        assert received.headers["webhook-signature"] == signed

    def test_two_secrets_both_convince(self, psp, far):
        psp.misbehave("two_secrets")

        make(psp)

        assert verified(far.requests[0], NEW) == verified(far.requests[0], OLD)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/psp/hooks", {"url": "http://192.0.2.1/"}),
        ("/psp/hooks", {"url": "file:///etc/passwd"}),
        ("/psp/hooks", {"url": "http://127.0.0.1/", "secrets": ["whsec_???"]}),
        ("/psp/hooks", {"url": "http://127.0.0.1/", "secrets": "whsec_"}),
        ("/psp/events", {}),
        ("/psp/events", {"type": ""}),
        ("/psp/events", {"type": "a", "id": "pspe.1"}),
        ("/psp/events", {"type": "a", "data": []}),
        ("/psp/events/resend", {"id": "pspe_1"}),
    ],
)
def test_what_is_no_request_is_refused(bank, path, body):
    assert bank.post(path, body)[0] == 400
