import re
import subprocess
import sys

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
            ("order 12 4111 1111 1111 1111", "order 12 [pan]"),
            ("4111-1111-1111-1111 123", "[pan] 123"),
            ("4111 1111 1111 1111 2026-11-23T07:02:39Z", "[pan] 2026-11-23T07:02:39Z"),
            ("4111111111111111 2nd try", "[pan] 2nd try"),
            ("/x/4111111111111111-1a", "/x/[pan]-1a"),
            ("4111111111111111 4111111111111111x", "[pan] 4111111111111111x"),
            ("order 12 ٤١١١ ١١١١ ١١١١ ١١١١ 99", "order 12 [pan] 99"),
            ("order 12 4111 1111 1111 1111 99", "order 12 [pan] 99"),
            ("/pan_4111111111111111_x", "/pan_[pan]_x"),
            ("/account_DE89370400440532013000", "/account_[iban]"),
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
            "trace 0af7651916cd4111111111111111ab9c of 4111 1111 1111 1112",
            "amount 1234567890123 minor",
            "2026-11-23T07:02:39Z",
            "request 4111111111111111ab0f",
        ],
    )
    def test_leaves(self, text):
        assert redact_text(text) == text

    @given(st.text(max_size=40), st.text(max_size=40))
    def test_finds_an_account_between_other_words(self, before, after):
        assert "DE89370400440532013000" not in redact_text(
            f"{before} DE89370400440532013000 {after}"
        )

    # As it was read before one pass was enough (ADR 0142): from every character anew.
    SLOW_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")

    @given(st.text("ab1é.+-_@ ", max_size=60))
    def test_finds_the_addresses_that_are_there(self, text):
        assert redact_text(text) == self.SLOW_EMAIL.sub("[email]", text)

    @pytest.mark.parametrize(
        "text",
        [
            "from a.b+c@mail.example.com, and <d@e.example>;f@g.example",
            "a@b.c+d@e.f and a@b.c..x@y.z",
            "anna@localhost and @ and @b.c and a@.c",
            "1.5 + 2.5 - x_y",
        ],
    )
    def test_finds_addresses_in_prose(self, text):
        assert redact_text(text) == self.SLOW_EMAIL.sub("[email]", text)


class TestHostileText:
    """A thread that reads a pattern holds the interpreter, so nobody else's request is answered."""

    UNITS = (
        "1", "a", "a.", "a@", "a@b", "a@b.", "@", "AA11 ", "AA11", "1 ", "4111111111111111 ",
        "://", "://a:", "bearer ", "bearer\t", "kassa_live_", "whsec_", "RF11", " ",
        "DE12 ", "DE89 3704 0044 0532 0130 0", "A ", "A-1", "1111.", "\\", "\\n", "%20", "%40",
        "1" * 4_096 + " 1", "é1", "٤ ", "%25", "25%", "%252", r"\xe2", "%C2%AD1",
        "1,", "1111,", "1111:", "11:", "1/", "%3A", "%BE ", r"\xFFMT12", r"\uFFFFMT12", r"\uABCD",
    )  # fmt: skip
    PROGRAM = """
import resource, sys
from apps.core.text import mask_card_numbers
from apps.banking.formats.references import places
from config.redaction import redact, redact_text

def read(hostile):
    redact_text(hostile[:65_536], length_max=65_536)
    redact({"event": hostile, hostile: hostile, "exception": hostile}, name=hostile)
    mask_card_numbers(hostile)
    list(places([], [hostile]))

def used():
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime

for unit in sys.argv[1:]:
    hostile = unit * (2**17 // len(unit))
    begun = used()
    read(hostile[: 2**15])
    # In steps that grow with the square of its length each of these takes ten seconds and more, and
    # sixteen times what a quarter of it takes, however slow the machine is.
    seconds = int(max(6, 8 * (used() - begun)) + used())
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    read(hostile)
    print(repr(unit), flush=True)
"""

    def test_is_read_in_one_pass(self):
        done = subprocess.run(
            [sys.executable, "-c", self.PROGRAM, *self.UNITS],
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.stdout.splitlines() == [repr(unit) for unit in self.UNITS], done.stderr
        assert done.returncode == 0


class TestLongText:
    SECRETS = (
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "anna.meier@mail.example.com",
        "Bearer abcdefgh12345",
        "kassa_live_AbCdEf123456_" + "x" * 49,
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "redis://:hunter2@127.0.0.1:6379/0",
    )

    def test_is_cut_where_a_word_ends(self):
        said = redact_text("word " * 10_000)

        assert said.endswith("word [cut]")
        assert 1_900 < len(said) < 2_048
        assert redact_text("x" * 31_000) == "[cut]"
        assert redact_text("Not Found: /" + "1" * 31_000) == "Not Found: [cut]"
        assert redact_text("x" * 2_048) == "x" * 2_048

    @pytest.mark.parametrize("secret", SECRETS)
    def test_keeps_no_half_of_a_secret_wherever_it_is_cut(self, secret):
        # Of no secret so much is left that it can be told from another one.
        halves = [secret[start : start + 8] for start in range(5, len(secret) - 7)]
        for before in range(2_048 - 200, 2_048 + 1):
            text = ("word " * 500)[:before] + " " + secret + " word" * 50
            said = redact_text(text)
            assert not [half for half in halves if half in said and half not in redact_text(secret)]

    def test_of_a_traceback_more_is_kept(self):
        said = redact({"exception": "line\n" * 100_000, "event": "line\n" * 100_000})
        secret = "kassa_live_abc_def "
        deep = f"Traceback\n{secret * 3_000}\nValueError: what went wrong"
        kept = str(redact({"exception": deep}))
        assert (kept.count("Traceback"), "ValueError: what went wrong" in kept) == (1, True)
        assert "[cut]" in kept
        assert "kassa_" not in kept

        assert len(said["event"]) < 2_048
        assert 16_000 < len(said["exception"]) < 16_384

    def test_nothing_else_is_unbounded(self):
        said = redact(
            {"ids": list(range(10_000)), "k" * 10_000: 1, "many": dict.fromkeys(range(10_000))}
        )

        assert said["ids"] == [*range(256), "[cut]"]
        assert len(said["many"]) == 256
        assert all(len(key) < 2_048 for key in said)


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
