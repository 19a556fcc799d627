from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from apps.webhooks.rules import signing

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def headers(signature, *, timestamp, message_id="evt_1"):
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature,
    }


class TestSign:
    def test_gives_the_published_vector(self):
        signature = signing.sign(
            secrets=[SECRET],
            message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
            timestamp=1614265330,
            body=b'{"test": 2432232314}',
        )

        assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    @given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=3), st.text())
    def test_convinces_an_independent_verifier_with_any_of_its_secrets(self, keys, text):
        import time  # noqa: PLC0415  (the verifier reads the machine's clock)

        timestamp = int(time.time())
        body = json.dumps({"text": text}).encode()
        secrets = [signing.write_secret(key) for key in keys]

        signature = signing.sign(
            secrets=secrets, message_id="evt_1", timestamp=timestamp, body=body
        )

        for secret in secrets:
            verified = Webhook(secret).verify(body, headers(signature, timestamp=timestamp))
            assert verified == {"text": text}

    @pytest.mark.parametrize("change", ["body", "id", "timestamp", "secret"])
    def test_convinces_nobody_of_anything_else(self, change):
        import time  # noqa: PLC0415  (the verifier reads the machine's clock)

        timestamp, body = int(time.time()), b'{"amount": 100}'
        signature = signing.sign(
            secrets=[SECRET], message_id="evt_1", timestamp=timestamp, body=body
        )
        verifier = Webhook(signing.write_secret(b"x" * 32) if change == "secret" else SECRET)
        sent = headers(
            signature,
            timestamp=timestamp + (change == "timestamp"),
            message_id="evt_2" if change == "id" else "evt_1",
        )

        with pytest.raises(WebhookVerificationError):
            verifier.verify(body + b" " if change == "body" else body, sent)

    @pytest.mark.parametrize(
        ("secrets", "message_id"),
        [([], "evt_1"), ([SECRET], "evt.1"), (["secret"], "evt_1"), (["whsec_???"], "evt_1")],
    )
    def test_refuses_what_cannot_be_signed(self, secrets, message_id):
        with pytest.raises(ValueError, match=r"signed|secret"):
            signing.sign(secrets=secrets, message_id=message_id, timestamp=1, body=b"{}")
