"""Verifying what others sign: the package of the standard signs, and our rule judges."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from apps.webhooks.rules import signing, verification
from apps.webhooks.rules.verification import Envelope, Verdict, verify

NOW = datetime(2026, 11, 26, 12, 0, 0, 900_000, tzinfo=UTC)
BODY = b'{"type": "payment.captured"}'
OLD, NEW, OTHERS = (signing.write_secret(bytes([number]) * 32) for number in range(3))


def signed(*secrets, message_id="msg_1", at=NOW, body=BODY):
    """The headers that the standard's own package makes, one signature a secret."""
    made = [Webhook(secret).sign(message_id, at, body.decode()) for secret in secrets]
    return Envelope(
        message_id=message_id, timestamp=str(int(at.timestamp())), signature=" ".join(made)
    )


def judged(envelope, *, secrets=(NEW,), body=BODY, now=NOW):
    return verify(secrets=secrets, envelope=envelope, body=body, now=now)


class TestVerify:
    def test_believes_who_holds_the_secret(self):
        assert judged(signed(NEW)) is Verdict.VERIFIED

    @pytest.mark.parametrize("signers", [(OLD,), (NEW,), (OLD, NEW), (OTHERS, OLD)])
    def test_believes_either_of_two_valid_secrets(self, signers):
        assert judged(signed(*signers), secrets=(NEW, OLD)) is Verdict.VERIFIED

    @pytest.mark.parametrize("secrets", [(), (NEW,), (NEW, OLD)])
    def test_believes_nobody_else(self, secrets):
        assert judged(signed(OTHERS), secrets=secrets) is Verdict.SIGNATURE_INVALID

    @pytest.mark.parametrize("seconds", [-300, 0, 300])
    def test_allows_five_minutes_to_either_side(self, seconds):
        envelope = signed(NEW, at=NOW + timedelta(seconds=seconds))

        assert judged(envelope) is Verdict.VERIFIED

    @pytest.mark.parametrize("seconds", [-600, -301, 301, 600])
    def test_says_that_a_clock_is_off(self, seconds):
        envelope = signed(NEW, at=NOW + timedelta(seconds=seconds))

        assert judged(envelope) is Verdict.TIMESTAMP_OUT_OF_RANGE

    def test_tells_a_stranger_nothing_of_clocks(self):
        envelope = signed(OTHERS, at=NOW - timedelta(hours=1))

        assert judged(envelope) is Verdict.SIGNATURE_INVALID

    def test_is_over_the_bytes_as_they_came(self):
        assert judged(signed(NEW), body=BODY + b" ") is Verdict.SIGNATURE_INVALID

    @pytest.mark.parametrize(
        "changed",
        [
            {"message_id": ""},
            {"message_id": "msg_2"},
            {"message_id": "msg 1"},
            {"message_id": "m" * 256},
            {"message_id": "msg_\u0661"},
            {"timestamp": ""},
            {"timestamp": "-1"},
            {"timestamp": "1e9"},
            {"timestamp": "\u0661\u0662"},
            {"timestamp": "9" * 5_000},
            {"signature": ""},
            {"signature": "v1,"},
            {"signature": "v1,\ud800"},
            {"signature": "v1a," + "A" * 44},
        ],
    )
    def test_refuses_headers_that_are_not_those_that_were_signed(self, changed):
        envelope = signed(NEW)
        fields = {name: getattr(envelope, name) for name in ("message_id", "timestamp")}
        fields |= {"signature": envelope.signature} | changed

        assert judged(Envelope(**fields)) is Verdict.SIGNATURE_INVALID

    def test_cannot_be_given_another_cut_between_id_time_and_body(self):
        at = int(NOW.timestamp())
        body = f"{at}.{BODY.decode()}".encode()
        envelope = signed(NEW, message_id="msg_1", at=datetime.fromtimestamp(1, UTC), body=body)
        moved = Envelope(message_id="msg_1.1", timestamp=str(at), signature=envelope.signature)

        assert judged(moved) is Verdict.SIGNATURE_INVALID

    @given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=200), st.binary())
    def test_refuses_whatever_a_stranger_makes_up(self, message_id, timestamp, signature, body):
        envelope = Envelope(message_id=message_id, timestamp=timestamp, signature=signature)

        assert judged(envelope, body=body) is Verdict.SIGNATURE_INVALID


class TestConstantTime:
    """What takes time is the number of comparisons and their length: neither tells a thing."""

    @pytest.fixture
    def compared(self, monkeypatch):
        """The comparisons that were made; each one is made by the standard library."""
        made, compare = [], hmac.compare_digest

        def count(one, other):
            made.append((one, other))
            return compare(one, other)

        monkeypatch.setattr(verification.hmac, "compare_digest", count)
        return made

    @pytest.mark.parametrize("right", ["none", "first", "last", "every"])
    def test_every_secret_is_compared_with_every_signature(self, compared, right):
        signers = {
            "none": (OTHERS, OTHERS),
            "first": (NEW, OTHERS),
            "last": (OTHERS, OLD),
            "every": (NEW, OLD),
        }[right]

        judged(signed(*signers), secrets=(NEW, OLD))

        assert len(compared) == 4

    @given(st.integers(min_value=0, max_value=43))
    def test_a_wrong_signature_is_compared_whole_however_much_of_it_is_right(self, right):
        envelope = signed(NEW)
        wrong = envelope.signature[: 3 + right].ljust(47, "-")

        with pytest.MonkeyPatch.context() as patched:
            made, compare = [], hmac.compare_digest
            patched.setattr(
                verification.hmac,
                "compare_digest",
                lambda one, other: made.append((one, other)) or compare(one, other),
            )
            verdict = judged(
                Envelope(
                    message_id=envelope.message_id, timestamp=envelope.timestamp, signature=wrong
                )
            )

        assert verdict is Verdict.SIGNATURE_INVALID
        assert [(len(one), len(other)) for one, other in made] == [(47, 47)]

    def test_no_more_than_eight_signatures_are_looked_at(self, compared):
        envelope = signed(NEW)
        many = " ".join(["v1,x"] * 5_000 + [envelope.signature])

        verdict = judged(
            Envelope(message_id=envelope.message_id, timestamp=envelope.timestamp, signature=many)
        )

        assert verdict is Verdict.SIGNATURE_INVALID
        assert len(compared) == 8


class TestIsSecret:
    @pytest.mark.parametrize("length", [24, 32, 64])
    def test_is_what_the_standard_calls_one(self, length):
        assert verification.is_secret(signing.write_secret(b"k" * length))

    @pytest.mark.parametrize(
        "text", ["", "secret", "whsec_", "whsec_???", signing.write_secret(b"k" * 23)]
    )
    def test_is_not_anything_else(self, text):
        assert not verification.is_secret(text)
