"""manage.py journey: the main job from a bank statement to the trial balance, in the terminal."""

import signal
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import override

from django.core.management.base import BaseCommand

from apps.backoffice.management.story import cast, journey, plot, processes
from apps.backoffice.management.story.client import Api, StepFailed
from apps.backoffice.management.story.receiver import receiver
from apps.backoffice.management.story.teller import Teller
from apps.banking.formats.problems import UnreadableFile
from apps.core import clock
from apps.core.errors import Refusal


class Command(BaseCommand):
    help = "Run the main job over the API with real workers; exit 1 when a step fails."

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--statement", type=Path, help="A camt.053 file; our own without it.")

    @override
    def handle(self, *, statement: Path | None = None, **_: object) -> None:
        teller = Teller()
        # Asked to end, it ends its processes on the way out, as it does on Ctrl-C.
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        try:
            self._tell(teller, statement)
        except (StepFailed, UnreadableFile, Refusal, processes.ProcessFailed) as failure:
            teller.failure(str(failure))
            sys.exit(1)
        finally:
            signal.signal(signal.SIGTERM, before)
        teller.console.print("\n[bold green]The journey is complete.[/bold green]")

    def _tell(self, teller: Teller, statement: Path | None) -> None:
        with (
            tempfile.TemporaryDirectory(prefix="kassa-journey-") as folder,
            receiver() as (hook_url, received),
            processes.bank() as bank,
            processes.kassa(bank) as base_url,
        ):
            now = clock.now()
            people = cast.gather(name=f"Journey of {now:%Y-%m-%d %H:%M:%S}", now=now)
            story = plot.Story(
                teller=teller,
                api=Api(base_url, people.token),
                cast=people,
                received=received,
                hook_url=hook_url,
                bank=bank,
                folder=Path(folder),
            )
            journey.tell(story, statement=statement)
