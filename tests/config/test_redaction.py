import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import scrub
from config.redaction import redact, redact_text


class TestRedactText:
    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            ("to DE89370400440532013000 today", "to [iban] today"),
            ("to DE89 3704 0044 0532 0130 00 today", "to [iban] today"),
            ("to ch9300762011623852957", "to [iban]"),
            ("from anna.meier@example.com.", "from [email]."),
            ("card 4111 1111 1111 1111", "card [pan]"),
            ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer [masked]"),
            ("kassa_live_AbCdEf123456_" + "x" * 49, "[key]"),
            ("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "[key]"),
            ("redis://:hunter2@127.0.0.1:6379/0", "redis://:[masked]@127.0.0.1:6379/0"),
        ],
    )
    def test_masks(self, text, masked):
        assert redact_text(text) == masked

    @pytest.mark.parametrize(
        "text",
        [
            "po_01h455vb4pex5vsknk084sn02q was batched",
            "0192f0a4-7e4c-7000-8000-92b24f9723b3",
            "DE89370400440532013001 has wrong check digits",
            "amount 1234567890123 minor",
            "2026-11-23T07:02:39Z",
        ],
    )
    def test_leaves(self, text):
        assert redact_text(text) == text

    @given(st.text(max_size=40), st.text(max_size=40))
    def test_finds_an_account_between_other_words(self, before, after):
        assert "DE89370400440532013000" not in redact_text(
            f"{before} DE89370400440532013000 {after}"
        )


class TestRedact:
    def test_masks_by_name_whatever_the_shape(self):
        assert redact({"webhook_secret": "short", "amount_minor": 5}) == {
            "webhook_secret": "[masked]",
            "amount_minor": 5,
        }

    def test_walks_what_contains(self):
        assert redact({"lines": [("from a@b.example",)]}) == {"lines": [["from [email]"]]}


def test_an_error_report_has_no_request_and_no_person():
    event = {
        "request": {"method": "POST", "url": "https://x/?q=1", "data": {"iban": "DE89"}},
        "user": {"id": "1"},
        "exception": {"values": [{"value": "DE89370400440532013000 is closed"}]},
    }

    assert scrub(event, {}) == {
        "request": {"method": "POST"},
        "exception": {"values": [{"value": "[iban] is closed"}]},
    }
