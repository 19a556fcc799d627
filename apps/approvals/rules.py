"""Who must agree before an act happens, and whether they have: over values alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from apps.core.canonical import digest


@dataclass(frozen=True, order=True)
class Step:
    """So many different people have to agree, each with this role or one of the `others`."""

    role: str
    count: int
    others: tuple[str, ...] = ()

    @property
    def roles(self) -> frozenset[str]:
        """Any of these will do."""
        return frozenset({self.role, *self.others})


@dataclass(frozen=True)
class Band:
    """Up to and including this amount (minor units; None is the rest) these steps are asked."""

    up_to_minor: int | None
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Extra:
    """Steps asked at least when every condition equals the act's own value."""

    when: Mapping[str, str]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Policy:
    """
    What an act asks for: a band of its currency, else `otherwise`, raised by extras that apply.

    Bands are in ascending order, the open one last; without an open one, more than the last band
    asks for `otherwise`.
    """

    bands: Mapping[str, tuple[Band, ...]] = field(default_factory=dict)
    otherwise: tuple[Step, ...] = ()
    extras: tuple[Extra, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a policy may ask about an act; conditions are plain text values."""

    amount_minor: int | None = None
    currency: str = ""
    conditions: Mapping[str, str] = field(default_factory=dict)


def required_steps(*, policy: Policy, facts: Facts) -> tuple[Step, ...]:
    """Return the steps this act needs, one per role, sorted; none means nobody is asked."""
    asked = [_banded(policy=policy, facts=facts)]
    asked += [
        extra.steps
        for extra in policy.extras
        if all(facts.conditions.get(name) == value for name, value in extra.when.items())
    ]
    counts: dict[tuple[str, tuple[str, ...]], int] = {}
    for step in (step for steps in asked for step in steps):
        who = (step.role, step.others)
        counts[who] = max(step.count, counts.get(who, 0))
    return tuple(
        Step(role, count, others) for (role, others), count in sorted(counts.items()) if count > 0
    )


def _banded(*, policy: Policy, facts: Facts) -> tuple[Step, ...]:
    if facts.amount_minor is None:
        return policy.otherwise
    for band in policy.bands.get(facts.currency, ()):
        if band.up_to_minor is None or facts.amount_minor <= band.up_to_minor:
            return band.steps
    return policy.otherwise


def steps_met(*, steps: Sequence[Step], approvers: Mapping[str, frozenset[str]]) -> bool:
    """
    Say whether every step has its people, each person counting once.

    `approvers` maps a person to the roles held. Someone with two roles fills the seat that is left:
    the seats are matched to people by augmenting paths (Kuhn), not first come first served.
    """
    seats = [step.roles for step in steps for _ in range(step.count)]
    seat_of: dict[str, int] = {}

    def seat_person(seat: int, seen: set[str]) -> bool:
        for person, roles in approvers.items():
            if seats[seat].isdisjoint(roles) or person in seen:
                continue
            seen.add(person)
            if person not in seat_of or seat_person(seat_of[person], seen):
                seat_of[person] = seat
                return True
        return False

    return all(seat_person(seat, set()) for seat in range(len(seats)))


def people_missing(*, steps: Sequence[Step], approvers: Mapping[str, frozenset[str]]) -> int:
    """Return how many more people are needed, at least; 0 exactly when the steps are met."""
    needed = sum(step.count for step in steps)
    for given in range(needed, -1, -1):
        if any(steps_met(steps=part, approvers=approvers) for part in _parts(steps, given)):
            return needed - given
    return needed


def _parts(steps: Sequence[Step], people: int) -> list[tuple[Step, ...]]:
    if not steps:
        return [()] if people == 0 else []
    first, rest = steps[0], steps[1:]
    return [
        (replace(first, count=count), *part)
        for count in range(min(first.count, people) + 1)
        for part in _parts(rest, people - count)
    ]


type Json = str | int | bool | Sequence["Json"] | Mapping[str, "Json"] | None


def snapshot_digest(snapshot: Mapping[str, object]) -> bytes:
    """
    Return the SHA-256 (32 bytes) of the snapshot's canonical JSON: what people agreed to.

    :raises TypeError: for a float or anything else that JSON has no exact form for
    """
    return digest(dict(snapshot))


def policy_from_json(stored: Mapping[str, object]) -> Policy:
    """Read a policy as `policy_to_json` wrote it."""
    bands = stored.get("bands") or {}
    extras = stored.get("extras") or []
    if not isinstance(bands, Mapping) or not isinstance(extras, list):
        raise TypeError("A policy has bands by currency and a list of extras.")
    return Policy(
        bands={
            currency: tuple(Band(row["up_to_minor"], _steps(row["steps"])) for row in rows)
            for currency, rows in bands.items()
        },
        otherwise=_steps(stored.get("otherwise") or []),
        extras=tuple(Extra(dict(row["when"]), _steps(row["steps"])) for row in extras),
    )


def _steps(rows: object) -> tuple[Step, ...]:
    if not isinstance(rows, list | tuple):
        raise TypeError("Steps are a list.")
    return tuple(
        Step(str(row["role"]), int(row["count"]), tuple(map(str, row.get("or", ()))))
        for row in rows
    )


def policy_to_json(policy: Policy) -> dict[str, Json]:
    """Return the policy as JSON values, for storing and for hashing."""
    return {
        "bands": {
            currency: [
                {"up_to_minor": band.up_to_minor, "steps": steps_to_json(band.steps)}
                for band in bands
            ]
            for currency, bands in policy.bands.items()
        },
        "otherwise": steps_to_json(policy.otherwise),
        "extras": [
            {"when": dict(extra.when), "steps": steps_to_json(extra.steps)}
            for extra in policy.extras
        ],
    }


def steps_to_json(steps: Sequence[Step]) -> list[Json]:
    """Return steps as JSON values; `or` is there where other roles will do as well."""
    return [_step_to_json(step) for step in steps]


def _step_to_json(step: Step) -> Json:
    row: dict[str, Json] = {"role": step.role, "count": step.count}
    return row | {"or": list(step.others)} if step.others else row


def roles_asked(steps: Sequence[Step]) -> frozenset[str]:
    """Return every role that may fill a seat of these steps."""
    return frozenset().union(*(step.roles for step in steps))


def steps_from_json(stored: object) -> tuple[Step, ...]:
    """Read steps as `steps_to_json` wrote them."""
    return _steps(stored)


def policy_fault(policy: Policy) -> str | None:
    """Return what is wrong with a policy that somebody wants to publish, or None."""
    every = [policy.otherwise, *(extra.steps for extra in policy.extras)]
    every += [band.steps for bands in policy.bands.values() for band in bands]
    if any(not 0 <= step.count <= COUNT_MAX for steps in every for step in steps):
        return "count_out_of_range"
    for bands in policy.bands.values():
        tops = [band.up_to_minor for band in bands]
        if None in tops[:-1]:
            return "bands_out_of_order"
        closed = [top for top in tops if top is not None]
        if closed != sorted(set(closed)) or any(top <= 0 for top in closed):
            return "bands_out_of_order"
    return None


COUNT_MAX: Final = 5
