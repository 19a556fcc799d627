"""What the chapters share: who is in the story, and what they hand on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from apps.approvals import operations as approvals
from apps.approvals.states import Verdict
from apps.backoffice.management.story.cast import Cast
from apps.backoffice.management.story.client import Api, StepFailed
from apps.backoffice.management.story.processes import Bank
from apps.backoffice.management.story.receiver import Received
from apps.backoffice.management.story.teller import Teller
from apps.banking.models import BankAccount
from apps.core import clock
from apps.core.actors import Actor

EUR: Final = "EUR"
ADA_IBAN: Final = "FI2112345600000785"
BOB_IBAN: Final = "NL91ABNA0417164300"
PAID_OUT: Final = 1_250_00
COMES_BACK: Final = 1_100_00
STARTS_WITH: Final = 5_000_00


@dataclass
class Customer:
    """One customer, as the story needs it."""

    id: str
    name: str
    reference: str
    account: str
    iban: str
    destination: str = ""


@dataclass
class Story:
    """What the chapters hand on."""

    teller: Teller
    api: Api
    cast: Cast
    received: Received
    hook_url: str
    bank: Bank
    folder: Path
    customers: list[Customer] = field(default_factory=list)
    account: BankAccount | None = None
    iban: str = ""

    @property
    def organization_id(self) -> UUID:
        return self.cast.organization_id

    def balance(self, customer: Customer) -> dict[str, Any]:
        return self.api.get(f"/v1/ledger-accounts/{customer.account}")

    def check(self, told: str, *, holds: bool) -> None:
        """Say what was checked; end the story if it does not hold."""
        if not holds:
            raise StepFailed(told)
        self.teller.fact(told)


def approve(story: Story, request_id: UUID, *, reason: str) -> None:
    approvals.decide_approval(
        organization_id=story.organization_id,
        request_id=request_id,
        verdict=Verdict.APPROVE,
        reason=reason,
        idempotency_key=f"approve-{request_id}",
        actor=Actor.staff(story.cast.approver.id),
        now=clock.now(),
    )
