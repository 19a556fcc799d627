"""Fills a seeded database by `manage.py seed_ledger`; runs as a child of `bench.seeded`."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management import call_command


def prepare(order: Mapping[str, Any]) -> Callable[[], None]:
    """Return what makes the large organisation and then the small ones."""

    def make() -> None:
        _seed("Large", postings=order["postings"], accounts=order["accounts"])
        for number in range(order["others"]):
            _seed(
                f"Small {number + 1}",
                postings=order["others_postings"],
                accounts=order["others_accounts"],
            )

    return make


def _seed(name: str, *, postings: int, accounts: int) -> None:
    # Its progress goes where a person sees it: standard output is the answer to the parent.
    call_command("seed_ledger", name=name, postings=postings, accounts=accounts, stdout=sys.stderr)
