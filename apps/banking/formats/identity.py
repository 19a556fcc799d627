"""
Which line is which (reconciliation.md, section 4).

Equal lines are counted, never dropped: two bookings of 3.50 on one day are occurrences 1 and 2.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256

from apps.banking.formats.values import Line


def line_identity(account: str, line: Line) -> bytes:
    """
    Return 32 bytes that equal lines share, whichever file or order they come in.

    NtryRef is left out: banks number entries anew in every file.
    """
    facts: list[object] = [
        account,
        line.booking_date.isoformat(),
        line.value_date.isoformat() if line.value_date else None,
        line.amount_minor,
        line.currency,
        line.status,
        line.account_servicer_ref,
        str(line.bank_code),
        line.text,
        [
            (
                detail.references.end_to_end_id,
                detail.counterparty.account,
                detail.counterparty.name,
                detail.texts,
                detail.creditor_references,
            )
            for detail in line.details
        ],
    ]
    return sha256(json.dumps(facts, ensure_ascii=True, separators=(",", ":")).encode()).digest()


def occurrences(
    identities: Sequence[bytes], *, already: Mapping[bytes, int] | None = None
) -> list[int]:
    """
    Return for each line which one of its equals it is, from 1; `already` counts go on.

    Give `already` (the highest occurrence known) for a statement that follows in the chain, where
    every line is new; leave it out for one that may overlap, where occurrence n is the same line.
    """
    counts = Counter(already or {})
    found = []
    for identity in identities:
        counts[identity] += 1
        found.append(counts[identity])
    return found
