"""Twenty workers on one organisation, in threads and processes, some killed: nothing is lost."""

import contextlib
import io
import random
import time
from collections import Counter
from datetime import timedelta
from functools import partial
from itertools import count

import pytest
from django.core.management import call_command

from apps.core import clock, outbox
from apps.core.errors import Refusal
from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.ledger import operations, queries
from apps.ledger.models import Hold, JournalEntry
from apps.ledger.operations import AccountChange, CaptureRequest, HoldRequest, TransferRequest
from tests.ledger.factories import ACTOR, create_organization, fund, open_account
from tests.ledger.threads import is_others_open
from tests.support import kill_hard, race, running, until_serialized, wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300), pytest.mark.django_db(transaction=True)]

SECONDS = 15
WALLETS = 12
MONEY = 10_000

HAMMERS = """
import sys
from functools import partial
from uuid import UUID

import django

django.setup()
from tests.ledger.test_hammer import hammer
from tests.support import race

organization, *wallets = map(UUID, sys.argv[3:])
race(*(partial(hammer, organization, wallets, f"{sys.argv[1]}-{n}", float(sys.argv[2]))
       for n in range(3)), seconds=200)
print("hammered", flush=True)
"""


class Worker:
    """One client: it asks for something else each time, and a refusal is an answer."""

    def __init__(self, organization, wallets, name: str) -> None:
        self.rng, self.name, self.number = random.Random(name), name, count()
        self.wallets = wallets
        self.base = {"organization_id": organization, "actor": ACTOR}

    def asked(self) -> dict:
        key = f"{self.name}-{next(self.number)}"
        return {**self.base, "idempotency_key": key, "now": clock.now()}

    def terms(self) -> dict:
        debit, credit = self.rng.sample(self.wallets, 2)
        return {
            "debit_account_id": debit, "credit_account_id": credit,
            "amount_minor": self.rng.choice([1, 10, 300, 5_000]), "currency": "EUR",
        }  # fmt: skip

    def transfer(self, **more) -> None:
        request = TransferRequest(**self.terms(), **more)
        operations.post_transfer(**self.asked(), transfer=request)

    def same_key_twice(self) -> None:
        asked, request = self.asked(), TransferRequest(**self.terms())
        first = operations.post_transfer(**asked, transfer=request)
        second = operations.post_transfer(**asked, transfer=request)
        assert second.entry_id == first.entry_id

    def back_dated(self) -> None:
        self.transfer(effective_at=clock.now() - timedelta(hours=self.rng.randrange(1, 90)))

    def as_much_as_there_is(self) -> None:
        self.transfer(up_to=True)

    def batch(self) -> None:
        transfers = [
            TransferRequest(**self.terms(), linked=self.rng.random() < 0.2) for _ in range(20)
        ]
        mode = self.rng.choice(["atomic", "independent"])
        operations.post_transfers(**self.asked(), transfers=transfers, mode=mode)

    def place(self) -> None:
        hold = HoldRequest(
            **self.terms(), multi_capture=self.rng.random() < 0.5,
            expires_at=clock.now() + timedelta(milliseconds=self.rng.choice([50, 1_000, 60_000])),
        )  # fmt: skip
        operations.place_hold(**self.asked(), hold=hold)

    def hold(self):
        rows = Hold.objects.filter(organization_id=self.base["organization_id"], status="open")
        found = list(rows.order_by("-id").values_list("id", flat=True)[:8])
        return self.rng.choice(found) if found else new_id()

    def capture(self) -> None:
        capture = CaptureRequest(amount_minor=self.rng.choice([None, None, 0, 1, 7]))
        operations.capture_hold(**self.asked(), hold_id=self.hold(), capture=capture)

    def void(self) -> None:
        operations.void_hold(**self.asked(), hold_id=self.hold())

    def sweep(self) -> None:
        organization = self.base["organization_id"]
        operations.expire_holds(organization_id=organization, now=clock.now())

    def seal(self) -> None:
        organization = self.base["organization_id"]
        outbox.relay_organization(organization_id=organization)
        operations.seal_entries(organization_id=organization, now=clock.now(), limit=100)

    def reverse(self) -> None:
        rows = JournalEntry.objects.filter(
            organization_id=self.base["organization_id"], kind="transfer", reverses=None
        )
        found = list(rows.order_by("-id").values_list("id", flat=True)[:20])
        ids = self.rng.sample(found, min(len(found), 2))
        operations.reverse_entries(
            **self.asked(), entry_ids=ids, at=self.rng.choice(["now", "original"]), reason="tests"
        )

    def change_floor(self) -> None:
        change = AccountChange(
            reason="tests", sets_floor=True,
            min_available_minor=self.rng.choice([0, -500, -2_000]),
        )  # fmt: skip
        operations.change_client_account(
            **self.asked(), account_id=self.rng.choice(self.wallets), change=change
        )

    def preview(self) -> None:
        operations.preview_transfers(
            organization_id=self.base["organization_id"], mode="independent", now=clock.now(),
            transfers=[TransferRequest(**self.terms())],
        )  # fmt: skip


ACTS = {
    "transfer": 8, "same_key_twice": 2, "back_dated": 2, "as_much_as_there_is": 2, "batch": 2,
    "place": 5, "capture": 4, "void": 1, "sweep": 1, "seal": 1, "reverse": 2, "change_floor": 1,
    "preview": 1,
}  # fmt: skip


def hammer(organization, wallets, name: str, until: float) -> Counter:
    """Ask until the time comes; return how often each act was answered by each code."""
    worker, answers = Worker(organization, wallets, name), Counter()
    while time.time() < until:
        [act] = worker.rng.choices(list(ACTS), list(ACTS.values()))
        try:
            until_serialized(getattr(worker, act))
            answers[act, ""] += 1
        except Refusal as refusal:
            answers[act, refusal.code] += 1
    return answers


class Processes:
    """Four processes of three threads; each time a hundred entries were made, one is killed."""

    def __init__(self, organization, wallets, until: float) -> None:
        self.arguments = (str(until), str(organization), *map(str, wallets))
        self.until, self.killed = until, 0

    def run(self) -> list[str]:
        with contextlib.ExitStack() as stack:
            start = iter(
                stack.enter_context(running("-c", HAMMERS, f"p{n}", *self.arguments))
                for n in count()
            )
            alive = [next(start) for _ in range(4)]
            while time.time() < self.until - 4:
                entries = JournalEntry.objects.count()
                wait_until(
                    lambda entries=entries: (
                        JournalEntry.objects.count() >= entries + 100
                        or time.time() >= self.until - 4
                    ),
                    seconds=60,
                )
                kill_hard(alive.pop(0))
                self.killed += 1
                alive.append(next(start))
            return [self.last_line(process) for process in alive]

    @staticmethod
    def last_line(process) -> str:
        told, _ = process.communicate(timeout=200)
        return told.strip().rpartition("\n")[2] if process.returncode == 0 else told


class TestHammer:
    def test_nothing_is_lost_and_everything_adds_up(self):
        organization = create_organization()
        wallets = [open_account(organization, f"wallets:w{n}:EUR") for n in range(WALLETS)]
        for wallet in wallets:
            fund(organization, wallet, MONEY, at=clock.now() - timedelta(hours=100))
        until = time.time() + SECONDS
        processes = Processes(organization, wallets, until)

        told, *answers = race(
            processes.run,
            *(partial(hammer, organization, wallets, f"t-{n}", until) for n in range(8)),
            seconds=250,
        )

        assert told == ["hammered"] * 4
        assert processes.killed >= 2
        answered = sum(answers, Counter())
        # Every act went through at least once, whatever else was refused.
        assert {act for act, code in answered if not code} == set(ACTS)
        wait_until(lambda: not is_others_open())
        self.settle(organization)
        views = queries.list_balances(organization_id=organization, ids=wallets)
        assert sum(view.posted for view in views) == WALLETS * MONEY
        assert all(view.available >= view.min_available_minor for view in views)
        assert breaches() == []
        out = io.StringIO()
        call_command("verify_ledger", stdout=out)
        assert "FAULT" not in out.getvalue()

    def settle(self, organization) -> None:
        """Number and seal all of it, as relay and job do."""
        outbox.relay_organization(organization_id=organization)
        while operations.seal_entries(organization_id=organization, now=clock.now()):
            pass
        status = queries.chain_status(organization_id=organization)
        assert (status.position, status.waiting) == (JournalEntry.objects.count(), 0)
