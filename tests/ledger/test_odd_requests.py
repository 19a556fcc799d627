"""
Thousands of odd requests of every kind: each is answered as the document says, none by a fault.

Whatever is refused has moved nothing. What is wrong with a request is drawn from a seed, so a
failure comes again.
"""

import random
from collections import Counter
from copy import deepcopy
from itertools import count
from typing import Any

import pytest

from apps.core import clock
from apps.core.invariants import breaches
from apps.core.wall_clock import print_instant
from tests.ledger import documents
from tests.ledger.acting import ACTS, Client
from tests.ledger.clients import printed
from tests.ledger.documents import JudgedClient
from tests.ledger.factories import fund
from tests.ledger.rows import fingerprints

pytestmark = pytest.mark.django_db(transaction=True)

REQUESTS = 250

TEXTS = (
    "", " ", "x", "EUR", "eur", "USD", "ÅÄÖ", "e\u0301", "a\u0000b", "a\u200bb", "\u202eabc",
    "\ud800", "x" * 256, "x" * 20_000, "1", "1e3", "-1", "NaN", "1.5", "null", "open", "now",
    "original",
    "independent", "2026-06-15T12:00:00Z", "2026-06-15T12:00:00", "2026-06-30T23:59:60Z",
    "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999+14:00", "2026-06",
    "je_01kb1mzxe5f0q8w3v6y2n4r7ta", "la_x", "payout:x",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 7, 10**13, 10**13 + 1, -(10**13), 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**29,
    10**31, 1.0, 0.1, 1e300, float("nan"), float("inf"), True, False,
)  # fmt: skip
# What has the right shape, and may meet a rule or none.
LIKELY: dict[str, tuple[Any, ...]] = {
    "amount": (1, 3, 10**12),
    "at": ("now", "original"),
    "bought_currency": ("EUR", "SEK"),
    "currency": ("USD", "SEK"),
    "dry_run": (True, False),
    "effective_at": ("2026-06-15T12:00:00Z", "1990-01-01T00:00:00Z", "2199-01-01T00:00:00Z"),
    "expires_at": ("2199-01-01T00:00:00Z", "1990-01-01T00:00:00Z"),
    "force": (True,),
    "linked": (True,),
    "metadata": ({"a": "b"}, {}),
    "min_available": (0, -100, 10**12),
    "mode": ("atomic", "independent"),
    "multi_capture": (True,),
    "quoted_at": ("2026-06-15T12:00:00Z",),
    "rate": ("0.0000001", "1.5"),
    "reference": ("r-1", "r-2", "payout:x"),
    "status": ("open", "frozen", "closed"),
    "threshold": (0, -5, 10**12),
    "up_to": (True,),
}
IDS = {
    "credit_account", "debit_account", "from_account", "journal_entries", "ledger_account",
    "to_account",
}  # fmt: skip
MOVES = {"reference", "description", "metadata", "effective_at", "up_to", "linked"}
UNKNOWN = "la_01kb1mzxe5f0q8w3v6y2n4r7ta"
DEEP: list[Any] = []
for _ in range(25):
    DEEP = [DEEP]


def fields_of(path: str) -> set[str]:
    """Return what the document says that a POST's body may have."""
    content = documents.operation_of("post", path)["requestBody"]["content"]
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return set(documents.load()["components"]["schemas"][name]["properties"])


class Odd:
    """Draws what is wrong with a request."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def value(self) -> Any:
        kind = self.rng.random()
        if kind < 0.4:
            return self.rng.choice(NUMBERS)
        if kind < 0.8:
            return self.rng.choice(TEXTS)
        return deepcopy(self.rng.choice((None, [], {}, [1], {"a": 1}, [None], [[]], DEEP)))

    def body(self, good: dict[str, Any], names: set[str]) -> dict[str, Any]:
        """Return a good body with something wrong in it, mostly once and sometimes more often."""
        body = deepcopy(good)
        for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
            inside = self.place(body)
            if isinstance(inside, dict):
                self.spoil(inside, names)
            elif inside:
                inside[self.rng.randrange(len(inside))] = self.value()
        return body

    def place(self, body: dict[str, Any]) -> Any:
        """Return an object or a list of the body: itself, or one that lies in it."""
        inside: Any = body
        while self.rng.random() < 0.6:
            values = inside.values() if isinstance(inside, dict) else inside
            deeper = [value for value in values if isinstance(value, dict | list) and value]
            if not deeper:
                break
            inside = self.rng.choice(deeper)
        return inside

    def spoil(self, body: dict[str, Any], names: set[str]) -> None:
        # Of a transfer in a batch what one by itself may have.
        known = sorted({*body, *(names if "postings" in body or "amount" not in body else MOVES)})
        if self.rng.random() < 0.05:
            known = ["surprise"]
        name, dice = self.rng.choice(known), self.rng.random()
        if name in LIKELY and dice < 0.8:
            body[name] = deepcopy(self.rng.choice(LIKELY[name]))
        elif name in IDS and dice < 0.5:
            body[name] = UNKNOWN
        elif name in body and dice > 0.9:
            del body[name]
        else:
            body[name] = self.value()


class TestOddRequests:
    @pytest.mark.parametrize(
        "seed", [0, *(pytest.param(n, marks=pytest.mark.soak) for n in (1, 2))]
    )
    def test_that_write_are_answered_as_documented_and_move_nothing_if_refused(self, seed):
        api, odd, keys = Client(), Odd(seed), count()
        judged, met = JudgedClient(api.token), Counter()
        for number in range(REQUESTS):
            if number % 25 == 0:
                begin_anew(api, next(keys))
                stood = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)
            act = odd.rng.choice(ACTS)
            good = api.body(act)
            if "quoted_at" in good:
                good["quoted_at"] = print_instant(clock.now())
            body = odd.body(good, fields_of(api.path(act)))

            answer = judged.post(api.path(act), body)

            met[answer.status_code] += 1
            assert answer.status_code < 500, (act, body)
            before, stood = stood, fingerprints("ledger_", "core_outbox", "core_audit", locks=False)
            if answer.status_code >= 400 or body.get("dry_run"):
                assert stood == before, (act, body)
        # Not all were wrong in their shape: rules were met as well, and some went through.
        assert {200, 201, 400, 409, 422} <= met.keys(), met
        assert breaches() == []

    def test_that_read_are_answered_as_documented(self):
        api, odd = Client(), Odd(0)
        begin_anew(api, 0)
        judged, met = JudgedClient(api.token), Counter()
        reads = [one for one in documents.operations() if one["operationId"].startswith("get_")]
        templates = {
            operation["operationId"]: path
            for path, methods in documents.load()["paths"].items()
            for operation in methods.values()
        }
        # Long enough for a vacuum to come by, which takes the traces of old locks away.
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)
        for _ in range(REQUESTS):
            operation = odd.rng.choice(reads)
            path = filled(templates[operation["operationId"]], api, odd)
            names = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]
            asked = odd.rng.sample(names, min(len(names), odd.rng.choice((0, 1, 1, 2))))
            query = {
                name.replace("[key]", "[a]"): str(odd.rng.choice(TEXTS + NUMBERS)) for name in asked
            }

            answer = judged.get(path, **{n: v for n, v in query.items() if "\ud800" not in v})

            met[answer.status_code] += 1
            assert answer.status_code < 500, (path, query)
        assert {200, 400, 404} <= met.keys(), met
        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before


def begin_anew(api: Client, number: int) -> None:
    """Have an open hold, an entry that was not reversed, and an account with money that is open."""
    asked = {"status": "open", "min_available": 0, "reason": "Anew"}
    api.post(f"/v1/ledger-accounts/{printed(api.ann)}", asked, key=f"open-{number}")
    fund(api.organization, api.ann, 100_00)
    held = api.post("/v1/holds", api.moved(5), key=f"held-{number}").json()
    posted = api.post("/v1/transfers", api.moved(2), key=f"moved-{number}").json()
    api.hold, api.entry = held["hold"]["id"], posted["id"]


def filled(template: str, api: Client, odd: Odd) -> str:
    """Return a path of the document with an id of ours in it, or an odd one."""
    ours = {"account": printed(api.ann), "hold": api.hold, "period": "2026-06"}
    name = next((name for name in ours if name in template), "entry")
    known = {**ours, "entry": api.entry}[name]
    odd_ones = ("x", "la_x", UNKNOWN, "2026-13", "%00", "0")
    chosen = known if odd.rng.random() < 0.7 else odd.rng.choice(odd_ones)
    return "/".join(chosen if part.startswith("{") else part for part in template.split("/"))
