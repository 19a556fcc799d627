"""The proof at the end: trial balance, our own recount, every invariant, and beancount."""

import subprocess
import sys
from io import StringIO
from pathlib import Path
from uuid import UUID

from django.core.management import call_command

from apps.backoffice.management.story.client import StepFailed
from apps.backoffice.management.story.teller import Teller
from apps.core import invariants
from apps.core.ids import encode_id
from apps.ledger import queries as ledger


def prove(teller: Teller, *, organization_id: UUID, folder: Path) -> None:
    """Print the trial balance and verify the books; end the story on the first fault."""
    teller.chapter("The books are proved")
    _verify(teller)
    _beancount(teller, organization_id, folder)
    lines = ledger.trial_balance(organization_id=organization_id)
    teller.console.print()
    teller.trial_balance(lines)
    totals = ledger.trial_balance_totals(lines)
    if any(debit != credit for debit, credit in totals.values()):
        msg = "the trial balance is not zero"
        raise StepFailed(msg)


def _verify(teller: Teller) -> None:
    out = StringIO()
    try:
        call_command("verify_ledger", quiet=True, stdout=out)
    except SystemExit:
        msg = f"verify_ledger: {out.getvalue()}"
        raise StepFailed(msg) from None
    teller.fact("verify_ledger recomputed every balance and found nothing wrong")
    broken = invariants.breaches()
    if broken:
        msg = "; ".join(f"{breach.name}: {breach.rows[0]}" for breach in broken)
        raise StepFailed(msg)
    teller.fact(f"{len(invariants.collect())} invariants of all apps hold")


def _beancount(teller: Teller, organization_id: UUID, folder: Path) -> None:
    path = folder / "journal.beancount"
    call_command(
        "export_journal",
        organization=encode_id("org", organization_id),
        format="beancount",
        output=path,
        stderr=StringIO(),
    )
    done = subprocess.run(  # noqa: S603  (beancount's own checker)
        [sys.executable, "-m", "beancount.scripts.check", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        msg = f"bean-check: {done.stdout}{done.stderr}"
        raise StepFailed(msg)
    teller.fact(f"beancount agrees: bean-check passes on {path.name}, balances asserted")
