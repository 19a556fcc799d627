"""Statements the story imports: the one it was given, and those the sandbox bank makes."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from django.conf import settings

from apps.backoffice.management.story.client import StepFailed
from apps.banking.formats.reading import read_bank_file
from apps.banking.formats.values import CamtFile
from apps.core.money import decimal_text

OWN_IBAN = "DE89370400440532013000"


@dataclass(frozen=True, slots=True)
class Account:
    """The account a statement is of, as the file names it."""

    identification: str
    currency: str


def account_of(content: bytes, *, name: str) -> Account:
    """
    Return whose statement this is; what is wrong with it is for the import to say.

    :raises UnreadableFile: if it is no bank file
    """
    read = read_bank_file(content, name=name)
    if not isinstance(read, CamtFile) or not read.statements:
        msg = f"{name} is not an account statement"
        raise StepFailed(msg)
    last = read.statements[-1]
    return Account(identification=last.account.identification, currency=last.currency or "EUR")


def make_statement(
    *,
    iban: str,
    currency: str,
    out: Path,
    database: Path | None = None,
    lines_in: Sequence[str],
    lines_out: Sequence[str] = (),
    opening_minor: int | None = None,
    day: date | None = None,
) -> bytes:
    """
    Have the sandbox bank make a statement, and return it.

    A line is `reference:amount:name[:iban]`; `database` is the bank's memory, its default without.
    """
    command = [sys.executable, "-m", "sandbox"]
    command += ["--database", str(database)] if database else []
    command += ["statement", "--iban", iban, "--currency", currency, "--out", str(out)]
    if opening_minor is not None:
        command += ["--opening", decimal_text(opening_minor, currency)]
    if day is not None:
        command += ["--date", day.isoformat()]
    for line in lines_in:
        command += ["--credit", line]
    for line in lines_out:
        command += ["--debit", line]
    done = subprocess.run(  # noqa: S603  (our own program)
        command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StepFailed(done.stderr.strip())
    [line] = done.stdout.strip().splitlines()
    return Path(json.loads(line)["path"]).read_bytes()
