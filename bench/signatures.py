"""
Whether the time that a wrong signature takes tells how much of it was right (events.md, case 15).

No test times it: on a busy machine a stopwatch finds anything. Here wrong signatures that differ
from the right one at one place after another are judged in turns, thousands of each, and a line is
laid through what they took. The same is done with a comparison that stops at the first difference,
so that it shows what this way of measuring finds where there is something to be found.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from apps.webhooks.rules import signing, verification
from apps.webhooks.rules.verification import Envelope, Verdict
from bench._registry import Figure, benchmark

_SECRET: Final = signing.write_secret(bytes(range(32)))
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_BODY: Final = b'{"type": "payment.captured", "data": {"id": "pay_1"}}' * 8
_ID, _AT = "msg_1", str(int(_NOW.timestamp()))
_AGAINST: Final = "a comparison that stops early"
# Characters of a signature after its `v1,`, the last of which only pads.
_FIRST, _LAST, _STEP = 3, 45, 3
_BLOCKS: Final = 40
_CALLS_A_BLOCK: Final = 400

type _Judge = Callable[[str], bool]


@benchmark
def signature_slope() -> Figure:
    """How much longer a wrong signature takes whose first difference is its last character."""
    right = signing.signatures(secrets=[_SECRET], message_id=_ID, timestamp=_AT, body=_BODY)[0]
    if not (_verified(right) and _stops_early(right)):
        msg = "The right signature is not believed."
        raise RuntimeError(msg)
    wrong = [(place, _changed(right, place)) for place in range(_FIRST, _LAST, _STEP)]
    slopes = [(_slope(_verified, wrong), _slope(_stops_early, wrong)) for _ in range(_BLOCKS)]
    ours, early = zip(*slopes, strict=True)
    return Figure(
        name="signature_slope",
        value=abs(statistics.mean(ours)),
        unit="ns",
        against=_AGAINST,
        reference=statistics.mean(early),
        must=0.05,
        lower_is_better=True,
        how=f"{_BLOCKS} blocks in turns, each of {_CALLS_A_BLOCK} calls a place at {len(wrong)}"
            f" places; the slope over the whole signature, of each place's median",
        detail={
            "slope_ns": round(statistics.mean(ours), 1),
            "standard_error_ns": round(_standard_error(ours), 1),
            "early_slope_ns": round(statistics.mean(early), 1),
            "early_standard_error_ns": round(_standard_error(early), 1),
        },
    )  # fmt: skip


def _verified(signature: str) -> bool:
    envelope = Envelope(message_id=_ID, timestamp=_AT, signature=signature)
    found = verification.verify(secrets=[_SECRET], envelope=envelope, body=_BODY, now=_NOW)
    return found is Verdict.VERIFIED


def _stops_early(signature: str) -> bool:
    [wanted] = signing.signatures(secrets=[_SECRET], message_id=_ID, timestamp=_AT, body=_BODY)
    if len(wanted) != len(signature):
        return False
    # Not `==`: that compares eight bytes at once, and nobody could say which of them differed.
    return all(one == other for one, other in zip(wanted, signature, strict=True))


def _changed(right: str, place: int) -> str:
    return f"{right[:place]}{'B' if right[place] == 'A' else 'A'}{right[place + 1 :]}"


def _slope(judge: _Judge, wrong: Sequence[tuple[int, str]]) -> float:
    """Return by how many ns the last place takes longer than the first, by the line through all."""
    took: dict[int, list[int]] = {place: [] for place, _ in wrong}
    calls = list(wrong) * _CALLS_A_BLOCK
    random.shuffle(calls)
    for place, signature in calls:
        begun = time.perf_counter_ns()
        judge(signature)
        took[place].append(time.perf_counter_ns() - begun)
    medians = [statistics.median(took[place]) for place in took]
    line = statistics.linear_regression(list(took), medians)
    return line.slope * (_LAST - _FIRST)


def _standard_error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5
