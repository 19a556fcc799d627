"""The lean reader and printer against the serializers: the same answers, whatever the body."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from apps.core import strict_json
from apps.core.api import problems
from apps.core.api.views import render
from apps.core.errors import Refusal, RuleViolation
from apps.core.ids import encode_id, new_id
from apps.ledger.api import lean, serializers
from apps.ledger.operations import TransferRequest
from apps.ledger.queries import BatchResult
from apps.ledger.rules import BalanceAfter

# The same in every process: each test is named by them.
ANN, BOB = (encode_id("la", UUID(int=0x01A21501_20B6_7000_8000_000000000000 + n)) for n in (1, 2))
GOOD = {"debit_account": ANN, "credit_account": BOB, "amount": 10, "currency": "EUR"}
BOUNDS = {"bytes_max": 16 * 2**20, "nodes_max": 200_000}


def by_serializer(raw: bytes) -> object:
    body = serializers.PostTransfer(data=strict_json.parse(raw))
    body.is_valid(raise_exception=True)
    asked = dict(body.validated_data)
    dry_run = asked.pop("dry_run", False)
    return TransferRequest(**asked), dry_run


def batch_by_serializer(raw: bytes) -> object:
    body = serializers.PostTransfers(data=strict_json.parse(raw, **BOUNDS))
    body.is_valid(raise_exception=True)
    asked = body.validated_data
    listed = [TransferRequest(**one) for one in asked["transfers"]]
    return listed, asked["mode"], asked.get("dry_run", False)


def answer_of(read, raw: bytes) -> object:
    """Return what was read, or the problem document it is refused with."""
    try:
        return read(raw)
    except (strict_json.JsonRefused, ValidationError, Refusal) as refused:
        problem = problems._problem(refused)
        return problem.status, problem.code, problem.detail, list(problem.errors)


def assert_same(raw: bytes) -> object:
    plain, lean_ = answer_of(by_serializer, raw), answer_of(lean.read_transfer, raw)
    assert lean_ == plain
    wrapped = b'{"mode":"independent","transfers":[' + raw + b"]}"
    batch = answer_of(lambda given: lean.read_batch(given, **BOUNDS), wrapped)
    assert batch == answer_of(batch_by_serializer, wrapped)
    return plain


AMOUNTS = [
    "-1", "0", "-0", "1", "10000000000000", "10000000000001", "NaN", "Infinity", "1e3", "1E3",
    "10.0", "1.5", "9223372036854775807", "9223372036854775808", "18446744073709551616",
    "1" * 30, "1" * 31,
    "true", "false", '"10"', "null", "[]", "{}", "[1]", "01", "+1", "1_000", "0x10", "1e400", "",
]  # fmt: skip
IDS = [
    "", "la_", "la_1", ANN[:-1], ANN + "0", ANN.upper(), ANN.replace("la_", "je_"), ANN[3:],
    "la_8" + "0" * 25, "la_" + "u" * 26, "la_" + "_" * 26, "la_" + " " * 26, "lä_" + "0" * 26,
    "la_" + "\u0660" * 26, "la_+" + "0" * 25, "\U0001f600", None, 1, True, [], {}, [ANN],
]  # fmt: skip
TEXTS = [
    "", " ", "a", "order 1", "x" * 255, "x" * 256, "x" * 500, "x" * 501, "é" * 127, "é" * 128,
    "é" * 250, "é" * 251, "e\u0301", "a\u0301\u0301\u0301\u0301\u0301", "a\tb", "a\nb", "a\x00b",
    "a\x7fb", "a\u0085b", "a\u200bb", "a\u202eb", "\ufeffa", "a\u2028b", "\ue000", "\u0378",
    "4111111111111111", "4111 1111 1111 1111", "a4111111111111111b", "411111111111111",
    "\uff14\uff11\uff11\uff11111111111111", "RF18539007547034",
    "0192f0a4-7e4c-7000-8000-92b24f9723b3",
    '"', "\\", "/", "日本語", "<script>", "1" * 40, None, 1, 1.5, True, [], {},
]  # fmt: skip
INSTANTS = [
    "2026-11-02T09:30:00Z", "2026-11-02t09:30:00z", "2026-11-02 09:30:00+01:00",
    "2026-11-02T09:30:00.123456-23:59", "2026-11-02T09:30:00.1234567Z", "2026-11-02T09:30:00",
    "2026-11-02T09:30Z", "2026-11-02", "20261102T093000Z", "2026-02-30T00:00:00Z",
    "2026-11-02T24:00:00Z", "2026-11-02T09:30:60Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z",
    "1970-01-01T00:00:00+01:00", "2199-12-31T23:59:59Z", "2199-12-31T23:59:59-01:00",
    "2200-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
    "2026-11-02T09:30:00+24:00", "٢٠٢٦-11-02T09:30:00Z", "", "now", None, 0, 1.5, True, [], {},
]  # fmt: skip
METADATA = [
    {}, {"k": "v"}, {"k": ""}, {"": "v"}, {"k" * 40: "v"}, {"k" * 41: "v"}, {"é" * 20: "v"},
    {"é" * 21: "v"}, {"k": "v" * 500}, {"k": "v" * 501}, {"k": "é" * 250}, {"k": "é" * 251},
    {f"k{n}": "v" for n in range(50)}, {f"k{n}": "v" for n in range(51)}, {"k": None}, {"k": 1},
    {"k": True}, {"k": []}, {"k": {}}, {"a": "e\u0301", "b": "x"}, {"e\u0301": "v"},
    {"a\u200b": "v"},
    {"k": "a\x07"}, {"k": "4111111111111111"}, {"4111111111111111": "v"}, {"a": 1, "b": 2},
    {"k/~": 1}, None, 1, "x", True, [], [1], [{"k": "v"}],
]  # fmt: skip
CURRENCIES = [
    "EUR", "JPY", "KWD", "eur", "EU", "EURO", "XAU", "XXX", "ZZZ", "", "EU\u0052\u0301",
    "\uff25\uff35\uff32", None, 1, True, [], {},
]  # fmt: skip
TRUTHS = [True, False, None, 0, 1, "true", "", [], {}]


class TestReading:
    @pytest.mark.parametrize("amount", AMOUNTS)
    def test_an_amount(self, amount):
        raw = json.dumps(GOOD).encode().replace(b'"amount": 10', f'"amount": {amount}'.encode())

        assert_same(raw)

    @pytest.mark.parametrize(
        ("field", "values"),
        [
            ("debit_account", IDS),
            ("credit_account", IDS),
            ("currency", CURRENCIES),
            ("reference", TEXTS),
            ("description", TEXTS),
            ("effective_at", INSTANTS),
            ("metadata", METADATA),
            ("linked", TRUTHS),
            ("up_to", TRUTHS),
            ("force", TRUTHS),
            ("dry_run", TRUTHS),
        ],
    )
    @pytest.mark.parametrize("escaped", [True, False])
    def test_a_field(self, field, values, escaped):
        for value in values:
            raw = json.dumps(GOOD | {field: value}, ensure_ascii=escaped)
            assert_same(raw.encode("utf-8", "surrogatepass"))

    @pytest.mark.parametrize("field", GOOD)
    def test_a_field_that_is_missing_or_another_too_many(self, field):
        assert_same(json.dumps({k: v for k, v in GOOD.items() if k != field}).encode())
        assert_same(json.dumps(GOOD | {f"{field}s": 1}).encode())
        assert_same(json.dumps(GOOD | {field.upper(): 1}).encode())

    @pytest.mark.parametrize(
        "raw",
        [
            b"", b" ", b"null", b"[]", b'"x"', b"1", b"{}", b"{", b"}", b"{}{}", b"[" * 50,
            json.dumps(GOOD).encode() + b" ",
            b"\n\t " + json.dumps(GOOD).encode(),
            json.dumps(GOOD).encode() + b"x",
            json.dumps(GOOD).encode() + b"\x00",
            b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
            json.dumps(GOOD).encode().replace(b"EUR", b"\xff\xfe"),
            json.dumps(GOOD).encode().replace(b"EUR", b"\\u0045UR"),
            json.dumps(GOOD).encode().replace(b"EUR", b"\\ud800"),
            json.dumps(GOOD).encode().replace(b"EUR", b"E\tR"),
            json.dumps(GOOD).encode().replace(b"currency", b"curr\\u0065ncy"),
            json.dumps(GOOD).encode("utf-16"),
        ],
        ids=ascii,
    )  # fmt: skip
    def test_a_text_that_is_odd_json(self, raw):
        assert_same(raw)

    @pytest.mark.parametrize(
        "twice",
        [
            '"amount": 10, ', '"amount": 11, ', '"currency": "EUR", ', '"metadata": {}, ' * 2,
            '"reference": "a", "reference": "a", ', '"metadata": {"k": "v", "k": "v"}, ',
            '"metadata": {"k": "v"}, "metadata": {"k": "v", "l": "w"}, ', '"linked": true, ' * 2,
            '"metadata": {"k": "\\"", "k": "v"}, ', '"unknown": 1, "unknown": 1, ',
        ],
    )  # fmt: skip
    def test_a_key_that_stands_there_twice_is_refused(self, twice):
        answer = assert_same(json.dumps(GOOD).replace("{", "{" + twice, 1).encode())

        assert answer[:2] == (400, "invalid_json")

    @settings(max_examples=300)
    @given(
        st.fixed_dictionaries(
            {},
            optional={
                "debit_account": st.sampled_from([ANN, BOB, *IDS]),
                "credit_account": st.sampled_from([ANN, BOB, *IDS]),
                "amount": st.integers(-1, 10**13 + 1) | st.sampled_from([1.0, "1", True, None]),
                "currency": st.sampled_from(["EUR", *CURRENCIES]),
                "reference": st.text(max_size=300) | st.sampled_from(TEXTS),
                "description": st.text(max_size=600) | st.sampled_from(TEXTS),
                "effective_at": st.datetimes(timezones=st.just(UTC)).map(str)
                | st.sampled_from(INSTANTS),
                "metadata": st.dictionaries(st.text(max_size=50), st.text(max_size=20), max_size=60)
                | st.sampled_from(METADATA),
                "linked": st.sampled_from(TRUTHS),
                "unknown": st.none(),
            },
        ),
        st.booleans(),
        st.booleans(),
    )
    def test_any_mixture(self, body, on_good, escaped):
        raw = json.dumps(GOOD | body if on_good else body, ensure_ascii=escaped)

        assert_same(raw.encode("utf-8", "surrogatepass"))


class TestReadingABatch:
    @pytest.mark.parametrize("mode", ["atomic", "independent", "x", "", None, 1, True, []])
    def test_a_mode(self, mode):
        self.assert_same({"mode": mode, "transfers": [GOOD]})

    @pytest.mark.parametrize(
        "transfers", [[], None, {}, "x", 1, [None], [1], [[]], [GOOD, GOOD | {"x": 1}]]
    )
    def test_a_list(self, transfers):
        self.assert_same({"transfers": transfers})
        self.assert_same({"transfers": transfers, "more": 1})

    def test_no_list(self):
        self.assert_same({})

    @pytest.mark.parametrize("count", [9_999, 10_000])
    def test_as_many_as_are_allowed(self, count):
        transfers, _mode, _dry_run = self.assert_same({"transfers": [GOOD] * count})

        assert len(transfers) == count

    def test_one_more_than_are_allowed(self):
        answer = self.assert_same({"transfers": [GOOD] * 10_001})

        assert (answer[0], answer[3][0]["pointer"]) == (400, "/transfers")

    def test_more_values_than_are_allowed(self):
        answer = self.assert_same(
            {"transfers": [GOOD | {"metadata": {f"k{n}": "v" for n in range(30)}}] * 7_000}
        )

        assert answer[:2] == (400, "invalid_json")

    def test_a_wrong_one_among_many_is_named(self):
        answer = self.assert_same({"transfers": [*[GOOD] * 500, GOOD | {"amount": 0}]})

        assert answer[3][0]["pointer"] == "/transfers/500/amount"

    def test_links_are_kept(self):
        [first, second], _mode, _dry_run = self.assert_same(
            {"transfers": [GOOD | {"linked": True}, GOOD | {"linked": False}]}
        )

        assert (first.linked, second.linked) == (True, False)

    def test_a_key_of_the_batch_that_stands_there_twice(self):
        raw = b'{"transfers":[],"transfers":[' + json.dumps(GOOD).encode() + b"]}"

        assert answer_of(lambda given: lean.read_batch(given, **BOUNDS), raw)[:2] == (
            400,
            "invalid_json",
        )

    def assert_same(self, body):
        raw = json.dumps(body).encode()
        plain = answer_of(batch_by_serializer, raw)
        assert answer_of(lambda given: lean.read_batch(given, **BOUNDS), raw) == plain
        return plain


class TestTheShortWay:
    """The fast path is taken, not only right: doubting every body would pass the tests above."""

    @pytest.mark.parametrize(
        "body",
        [
            GOOD,
            GOOD | {"reference": "order 4711", "description": "x"},
            GOOD | {"description": "Café für 2"},
            GOOD | {"effective_at": "2026-11-02T09:30:00Z", "metadata": {"k": "v", "l": "ü"}},
            GOOD | {"up_to": True, "force": False},
        ],
    )
    def test_is_taken_by_what_clients_send(self, body, monkeypatch):
        raw = json.dumps(body, ensure_ascii=False).encode()
        expected = by_serializer(raw)
        monkeypatch.setattr(lean.strict_json, "parse", None)

        assert lean.read_transfer(raw) == expected
        assert lean.read_batch(b'{"transfers":[%s]}' % raw, **BOUNDS) == (
            [expected[0]],
            "atomic",
            False,
        )

    def test_is_taken_by_dry_runs(self, monkeypatch):
        raw = json.dumps(GOOD | {"dry_run": True}).encode()
        batch = b'{"dry_run":true,"transfers":[%s]}' % json.dumps(GOOD).encode()
        expected, in_batch = by_serializer(raw), batch_by_serializer(batch)
        monkeypatch.setattr(lean.strict_json, "parse", None)

        assert lean.read_transfer(raw) == expected
        assert lean.read_batch(batch, **BOUNDS) == in_batch


class Odd(RuleViolation):
    code = "tests_lean_odd"


class TestPrinting:
    def test_a_transfer(self):
        asked, _dry_run = by_serializer(
            json.dumps(GOOD | {"reference": "é", "metadata": {"k": "v"}}).encode()
        )
        balances = [
            BalanceAfter(id_, 3, 10, 9) for id_ in (asked.debit_account_id, asked.credit_account_id)
        ]
        for at, created_at in (
            (datetime(2026, 11, 2, 9, 30, tzinfo=UTC), None),
            (datetime(2026, 11, 2, 9, 30, 0, 5, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)),
        ):
            shown = {
                "id": new_id(),
                "description": "x",
                "effective_at": at + timedelta(hours=1),
                "created_at": created_at,
                "metadata": asked.metadata or {},
                "amount": 7,
                "dry_run": False,
                "balances": [(balance.id, balance) for balance in balances],
            }
            by_framework = serializers.Transfer(
                {
                    **shown,
                    "debit_account": asked.debit_account_id,
                    "credit_account": asked.credit_account_id,
                    "amount": 7,
                    "currency": asked.currency,
                    "reference": asked.reference,
                    "balances": balances,
                }
            ).data

            assert render(lean.print_transfer(asked, shown)) == render(by_framework)

    @pytest.mark.parametrize("created_at", [None, datetime(2026, 11, 2, 9, 30, 0, 5, tzinfo=UTC)])
    def test_a_batch(self, created_at):
        ids = (new_id(), None, new_id())
        refusal = Odd("That is odd.", index=1, account=new_id(), available=5)
        balance = BalanceAfter(new_id(), 3, 10, 4)
        result = BatchResult(new_id(), ids, {1: refusal}, (7, None, 8), (balance,), created_at)
        by_framework = serializers.TransferBatch(
            {
                "id": result.batch_id,
                "posted": 2,
                "refused": 1,
                "outcomes": [
                    {
                        "status": "posted",
                        "transfer": ids[0],
                        "amount": 7,
                        "code": None,
                        "detail": None,
                        "details": None,
                    },
                    {
                        "status": "refused",
                        "transfer": None,
                        "amount": None,
                        "code": refusal.code,
                        "detail": refusal.message,
                        "details": refusal.details,
                    },
                    {
                        "status": "posted",
                        "transfer": ids[2],
                        "amount": 8,
                        "code": None,
                        "detail": None,
                        "details": None,
                    },
                ],
                "balances": [balance],
                "created_at": created_at,
                "dry_run": False,
            }
        ).data

        assert render(lean.print_batch(result)) == render(by_framework)
