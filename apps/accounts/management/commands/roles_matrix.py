"""Print the table of roles as the page in `docs/`."""

from collections.abc import Iterator
from typing import Any, Final, override

from django.core.management.base import BaseCommand

from apps.accounts.roles import CAPABILITIES, Capability, Role

_LEGEND: Final = (
    "● does it alone, or decides what others ask for; ○ may only ask; ² is an act for two people,",
    "† one for a second factor shown at most five minutes ago.",
    "",
    "The marks say what is decided; not all of it is asked yet. No act asks for the factor anew,",
    "and one person is enough for `accounts.create_api_key`, `accounts.rotate_api_key`,",
    "`payouts.void_batch` and `settlements.change_price_plan`. How many agree to a payout, or to",
    "releasing a batch, is up to the approval policy; the one that ships asks nobody of a batch.",
)


class Command(BaseCommand):
    help = "Print docs/roles.md, made from apps/accounts/roles.py."

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        for line in _lines():
            self.stdout.write(line)


def _lines() -> Iterator[str]:
    yield "# Who may do what"
    yield ""
    yield "Made from `apps/accounts/roles.py` by `manage.py roles_matrix`; a test compares them."
    yield ""
    yield from _LEGEND
    yield ""
    yield "| Capability | " + " | ".join(f"`{role}`" for role in Role) + " |"
    yield "|---" * (len(Role) + 1) + "|"
    for row in CAPABILITIES.values():
        yield (
            f"| `{row.name}`{_marks(row)} | " + " | ".join(_cell(row, role) for role in Role) + " |"
        )


def _marks(row: Capability) -> str:
    return " " * (row.two_people or row.reauthentication) + (
        "²" * row.two_people + "†" * row.reauthentication
    )


def _cell(row: Capability, role: Role) -> str:
    return "●" if role in row.full else "○" if role in row.asks else " "
