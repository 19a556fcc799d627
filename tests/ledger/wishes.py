"""Commands as a machine wishes for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from apps.ledger.rules import (
    CaptureHold,
    Command,
    ExpireHold,
    Leg,
    PlaceHold,
    PostEntry,
    Transfer,
    VoidHold,
)

START = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)

# Code, type, floor: both normal sides, with and without a floor, in two currencies.
SPECS = (
    ("wallets:ann:EUR", "liability", 0),
    ("wallets:bob:EUR", "liability", -500),
    ("tills:one:EUR", "asset", 0),
    ("vaults:one:EUR", "asset", None),
    ("wallets:ann:USD", "liability", 0),
    ("vaults:one:USD", "asset", None),
)
_EUR, _USD = range(4), range(4, 6)
# Mostly such as can be posted; an account with itself, and two currencies, now and then.
PAIRS = [
    *((a, b) for a in _EUR for b in _EUR if a != b),
    *[(a, b) for a in _USD for b in _USD if a != b] * 2,
    (0, 0),
    (0, 4),
]
AMOUNTS = (1, 2, 7, 30, 100, 100, 250, 600)
# Fixed instants, so that some are equal; and such as depend on the clock's own.
FIXED = [START + timedelta(hours=hours) for hours in (-960, -240, -24, -1, 0, 1, 24, 240)]
NEAR = [timedelta(seconds=seconds) for seconds in (-60, -1, 0, 2, 4, 6, 3600)]
TICKS = [timedelta(seconds=seconds) for seconds in (-2, 0, 1, 3, 60, 3600, 86400)]
REFERENCES = (None, None, None, None, "r-1", "r-2", "r-3")
# One of Kassa's own acts among them, which may be asked for again once its hold has ended.
OWN_REFERENCE = "payout:po_1:hold"
HOLD_REFERENCES = ("h-1", "h-2", "h-3", OWN_REFERENCE)
SEPTEMBER = (datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC), "2026-09")
OCTOBER = (datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC), "2026-10")
NOVEMBER = (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), "2026-11")


@dataclass(frozen=True)
class Wish:
    """One command; accounts, holds and times are still places in what the machine knows."""

    kind: str
    pair: tuple[int, int] = (0, 1)
    amount: int | None = None
    when: datetime | timedelta | None = None
    reference: str | None = None
    flags: frozenset[str] = frozenset()
    hold: int = 0


@dataclass(frozen=True)
class Chooser:
    """Where choices come from: Hypothesis, which shrinks them."""

    pick: Callable[[Sequence[Any]], Any]

    def flags(self, **odds: int) -> frozenset[str]:
        """Each flag once in so many times."""
        return frozenset(name for name, n in odds.items() if self.pick(range(n)) == n - 1)

    def when(self) -> datetime | timedelta | None:
        return self.pick([None, None, None, *FIXED, *NEAR])


def transfer(choose: Chooser, *, linked: bool = False) -> Wish:
    return Wish(
        "transfer",
        choose.pick(PAIRS),
        choose.pick(AMOUNTS),
        choose.when(),
        choose.pick(REFERENCES),
        choose.flags(up_to=6, force=8) | (frozenset({"linked"}) if linked else frozenset()),
    )


def entry(choose: Chooser) -> Wish:
    """Three accounts of which one is passed through, so the legs are netted."""
    return Wish(
        "entry", choose.pick(PAIRS[:12]), choose.pick(AMOUNTS), choose.when(),
        choose.pick(REFERENCES), choose.flags(force=8),
    )  # fmt: skip


def place(choose: Chooser) -> Wish:
    return Wish(
        "place", choose.pick(PAIRS), choose.pick(AMOUNTS),
        choose.pick([None, None, *NEAR]), choose.pick((None, None, *HOLD_REFERENCES)),
        choose.flags(multi_capture=2),
    )  # fmt: skip


def capture(choose: Chooser) -> Wish:
    return Wish(
        "capture", (0, 1), choose.pick([None, None, 0, 1, 7, 50, 300]), choose.when(),
        choose.pick(REFERENCES), hold=choose.pick(range(6)),
    )  # fmt: skip


def end(choose: Chooser) -> Wish:
    return Wish(choose.pick(["void", "expire"]), hold=choose.pick(range(6)))


def anything(choose: Chooser, *, linked: bool = False) -> Wish:
    make = choose.pick([transfer, transfer, transfer, entry, place, place, capture, capture, end])
    wish = make(choose)
    flags = wish.flags | (frozenset({"linked"}) if linked else frozenset())
    return Wish(**{**wish.__dict__, "flags": flags})


def several(choose: Chooser) -> list[Wish]:
    """A batch, some of it linked; its last chain may be left open."""
    return [
        anything(choose, linked=choose.pick(range(4)) == 0) for _ in range(choose.pick((2, 3, 5)))
    ]


def together(choose: Chooser) -> list[Wish]:
    """Entries of one act: some bring what others take away."""
    return [entry(choose) for _ in range(choose.pick((1, 2, 3, 5)))]


def legs(choose: Chooser) -> list[tuple[int, int, str]]:
    """
    Legs of two to four accounts in one currency or both: place, amount, currency.

    Now and then they do not sum to zero, or name an account twice.
    """
    found = []
    for places, currency in choose.pick(
        [[(_EUR, "EUR")], [(_EUR, "EUR")], [(_USD, "USD")], [(_EUR, "EUR"), (_USD, "USD")]]
    ):
        first, many = choose.pick(range(len(places))), choose.pick(range(2, len(places) + 1))
        amounts = [choose.pick((-1, 1)) * choose.pick(AMOUNTS) for _ in range(many - 1)]
        # No leg is of nothing: where the others sum to zero, all of them do not.
        amounts.append(-sum(amounts) or 1)
        found += [
            (places[(first + place) % len(places)], amount, currency)
            for place, amount in enumerate(amounts)
        ]
    odd = choose.pick(range(10))
    if odd == 0:
        found[0] = (found[0][0], found[0][1] * 2, found[0][2])
    elif odd == 1:
        found[-1] = (found[0][0], *found[-1][1:])
    return found


def terms(choose: Chooser) -> tuple[datetime | timedelta | None, str | None, bool]:
    """Of an entry: its time, its reference, and whether it is forced."""
    return choose.when(), choose.pick(REFERENCES), choose.pick(range(8)) == 7


def drawn(make: Callable[[Chooser], Any]) -> st.SearchStrategy[Any]:
    @st.composite
    def strategy(draw: Callable[..., Any]) -> Any:
        return make(Chooser(lambda options: draw(st.sampled_from(list(options)))))

    return strategy()


def command_of(
    wish: Wish, *, ids: Sequence[UUID], holds: Sequence[UUID], now: datetime, new: UUID
) -> Command:
    """Return the command a wish stands for, for accounts and holds of these ids, newest first."""
    linked, currency = "linked" in wish.flags, SPECS[wish.pair[0]][0][-3:]
    at = now + wish.when if isinstance(wish.when, timedelta) else wish.when
    debit, credit = (ids[place] for place in wish.pair)
    # A hold that nobody placed, where there are not so many.
    hold = holds[wish.hold] if wish.hold < len(holds) else UUID(int=wish.hold)
    match wish.kind:
        case "transfer":
            return Transfer(
                id=new, debit_account_id=debit, credit_account_id=credit,
                amount_minor=wish.amount, currency=currency, reference=wish.reference,
                effective_at=at, up_to="up_to" in wish.flags, force="force" in wish.flags,
                linked=linked,
            )  # fmt: skip
        case "entry":
            third = next(id_ for place, id_ in enumerate(ids) if place not in wish.pair)
            return PostEntry(
                id=new,
                legs=(
                    Leg(debit, wish.amount + 1),
                    Leg(credit, -wish.amount),
                    Leg(third, -1),
                ),
                currency=currency, kind="adjustment", reference=wish.reference, effective_at=at,
                force="force" in wish.flags, linked=linked,
            )  # fmt: skip
        case "place":
            return PlaceHold(
                id=new, debit_account_id=debit, credit_account_id=credit,
                amount_minor=wish.amount, currency=currency, reference=wish.reference,
                expires_at=at, multi_capture="multi_capture" in wish.flags, linked=linked,
            )  # fmt: skip
        case "capture":
            # Its reference is of this hold: no other command posts the same.
            reference = f"{wish.reference}-{hold}" if wish.reference else None
            return CaptureHold(
                hold_id=hold, entry_id=new, kind="capture", amount_minor=wish.amount,
                reference=reference, effective_at=at, linked=linked,
            )  # fmt: skip
        case "void":
            return VoidHold(hold_id=hold, linked=linked)
        case _:
            return ExpireHold(hold_id=hold, linked=linked)
