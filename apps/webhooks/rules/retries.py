"""When an attempt is made again, when an endpoint is left alone, and when it is switched off."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

SECOND: Final = 1.0
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE

# After attempts 1 to 9; the tenth is the last. Together about 75.6 hours.
DELAYS_SECONDS: Final = (
    5 * SECOND,
    *(5 * MINUTE, 30 * MINUTE),
    *(2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR),
)
ATTEMPTS_MAX: Final = len(DELAYS_SECONDS) + 1
JITTER: Final = 0.2
BUSY_DELAY_SECONDS_MIN: Final = 60.0

CIRCUIT_FAILURES: Final = 5
CIRCUIT_SECONDS_MIN: Final = 30
CIRCUIT_SECONDS_MAX: Final = 15 * 60

DISABLE_AFTER: Final = timedelta(hours=120)
DISABLE_EVENTS_MIN: Final = 10

SLOW_SAMPLE: Final = 20
SLOW_ABOVE_MS: Final = 2000
FAST_BELOW_MS: Final = 1000


class Outcome(StrEnum):
    """What became of one attempt."""

    SUCCEEDED = "succeeded"
    REDIRECTED = "redirected"
    REFUSED = "refused"
    RATE_LIMITED = "rate_limited"
    GONE = "gone"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    DNS_ERROR = "dns_error"
    CONNECT_ERROR = "connect_error"
    TLS_ERROR = "tls_error"
    PROTOCOL_ERROR = "protocol_error"
    BLOCKED_ADDRESS = "blocked_address"
    NO_BODY = "no_body"
    INTERNAL_ERROR = "internal_error"


# The other side was not reached, or did not answer in time: what opens the circuit.
UNREACHED: Final = frozenset({Outcome.TIMEOUT, Outcome.CONNECT_ERROR})
# Nobody was asked: it shows neither that the receiver is there nor that it is not.
_UNASKED: Final = frozenset({Outcome.DNS_ERROR, Outcome.BLOCKED_ADDRESS})
# Our own faults, which say nothing about the receiver.
OURS: Final = frozenset({Outcome.NO_BODY, Outcome.INTERNAL_ERROR})
_BUSY: Final = frozenset({Outcome.TIMEOUT, Outcome.RATE_LIMITED})


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt as it went; `head` is the beginning of the answer, fit to be stored."""

    delivery_id: UUID
    number: int
    started_at: datetime
    duration_ms: int
    outcome: Outcome
    status_code: int | None = None
    address: str = ""
    head: str = ""
    retry_after: str = ""

    @property
    def succeeded(self) -> bool:
        return self.outcome is Outcome.SUCCEEDED


def ended_here(*, delivery_id: UUID, number: int, outcome: Outcome, now: datetime) -> Attempt:
    """Return the attempt that ended on our side, of which no answer is known."""
    return Attempt(
        delivery_id=delivery_id, number=number, started_at=now, duration_ms=0, outcome=outcome
    )


def outcome_of_status(status: int) -> Outcome:  # noqa: PLR0911  (one line a class of answers)
    """Return what an answer's status means; a body never matters."""
    match status:
        case _ if 200 <= status <= 299:  # noqa: PLR2004  (HTTP's own)
            return Outcome.SUCCEEDED
        case 410:
            return Outcome.GONE
        case 429:
            return Outcome.RATE_LIMITED
        case _ if 300 <= status <= 399:  # noqa: PLR2004  (HTTP's own)
            return Outcome.REDIRECTED
        case _ if 400 <= status <= 499:  # noqa: PLR2004  (HTTP's own)
            return Outcome.REFUSED
        case _ if 500 <= status <= 599:  # noqa: PLR2004  (HTTP's own)
            return Outcome.SERVER_ERROR
        case _:
            return Outcome.PROTOCOL_ERROR


def next_delay_seconds(
    *, attempts: int, outcome: Outcome, retry_after: str, now: datetime, jitter: float | None = None
) -> float | None:
    """
    Return after how many seconds to try again, or None when the attempts are used up.

    `attempts` counts this one. `Retry-After` replaces the jitter (-1 to 1, drawn if not given),
    clamped to [delay, 2 x delay]; the floor for a busy receiver is applied last.
    """
    if attempts >= ATTEMPTS_MAX:
        return None
    step = DELAYS_SECONDS[attempts - 1]
    asked = retry_after_seconds(retry_after, now=now)
    if asked is not None:
        delay = min(max(asked, step), 2 * step)
    else:
        drawn = random.uniform(-1, 1) if jitter is None else jitter  # noqa: S311  (no secret)
        delay = step * (1 + JITTER * drawn)
    return max(delay, BUSY_DELAY_SECONDS_MIN) if outcome in _BUSY else delay


def retry_after_seconds(text: str, *, now: datetime) -> float | None:
    """Read a `Retry-After` header, seconds or an HTTP date; None if it is absent or neither."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:  # noqa: PLR2004  (30 years)
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    # Of a year, a day or an offset without bounds the library makes an OverflowError.
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())


@dataclass(frozen=True, kw_only=True)
class Health:
    """How an endpoint has been answering: its circuit, and since when nothing has succeeded."""

    unreached_in_a_row: int = 0
    circuit_openings: int = 0
    circuit_open_until: datetime | None = None
    first_failure_at: datetime | None = None


def after_attempt(
    health: Health, attempt: Attempt, *, circuit_openings: int, database_now: datetime
) -> Health:
    """
    Return the health after one more attempt.

    Any success makes it whole. Five attempts in a row that did not reach the receiver open the
    circuit for 30 seconds; each failed probe doubles that, to at most 15 minutes. An answer of
    any status shows that the receiver is there, and closes it. A name that is not found, or leads
    to an address that is refused, is a failure that leaves the circuit as it is. A fault of ours
    says nothing about the receiver, and changes nothing.

    `circuit_openings` is what it was when the attempt was decided on. One from before the circuit
    last opened met the outage that opened it, and leaves the circuit alone: many lanes that time
    out together are one outage, and none of them is the probe.

    The first failure is when that attempt began; the circuit is on the database's clock, as all
    due times are.
    """
    if attempt.outcome in OURS:
        return health
    is_of_before = circuit_openings != health.circuit_openings
    if attempt.succeeded:
        return replace(health, first_failure_at=None) if is_of_before else Health()
    # Lanes are recorded as they end, and the one that began first may end last.
    began = min(attempt.started_at, health.first_failure_at or attempt.started_at)
    failing = replace(health, first_failure_at=began)
    return failing if is_of_before else _after_failure(failing, attempt.outcome, database_now)


def _after_failure(failing: Health, outcome: Outcome, database_now: datetime) -> Health:
    if outcome in _UNASKED:
        return failing
    if outcome not in UNREACHED:
        return replace(failing, unreached_in_a_row=0, circuit_openings=0, circuit_open_until=None)
    in_a_row = failing.unreached_in_a_row + 1
    if in_a_row < CIRCUIT_FAILURES:
        return replace(failing, unreached_in_a_row=in_a_row)
    openings = failing.circuit_openings + 1
    # The exponent is bounded before it is used: an endpoint may be away for months.
    seconds = min(CIRCUIT_SECONDS_MIN * 2 ** min(openings - 1, 10), CIRCUIT_SECONDS_MAX)
    return replace(
        failing,
        unreached_in_a_row=in_a_row,
        circuit_openings=openings,
        circuit_open_until=database_now + timedelta(seconds=seconds),
    )


def is_failing_for_good(health: Health, *, failed_events: int, now: datetime) -> bool:
    """Say whether nothing succeeded for more than 120 hours, over at least ten events."""
    since = health.first_failure_at
    return since is not None and now - since > DISABLE_AFTER and failed_events >= DISABLE_EVENTS_MIN


def is_slow(durations_ms: Sequence[int], *, was_slow: bool) -> bool:
    """
    Say whether the endpoint belongs to the slow workers, by its last 20 attempts.

    Of fewer it is known as soon as the mean of 20 can only be above the bound.
    """
    if sum(durations_ms) > SLOW_SAMPLE * SLOW_ABOVE_MS:
        return True
    mean = mean_ms(durations_ms)
    if mean is None or len(durations_ms) < SLOW_SAMPLE:
        return was_slow
    return mean > SLOW_ABOVE_MS or (was_slow and mean >= FAST_BELOW_MS)


def mean_ms(durations_ms: Sequence[int]) -> float | None:
    """Return how long attempts took on average, or None where there were none."""
    return sum(durations_ms) / len(durations_ms) if durations_ms else None
