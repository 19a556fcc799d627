"""Bring the database up to date and load the demo, in one process: starting it takes longest."""

import argparse
import os

import django
from django.core.management import call_command


def main() -> None:
    """Print on standard output what the demo has to say."""
    parser = argparse.ArgumentParser(prog="python -m dev.prepare", description=__doc__)
    parser.add_argument("--base-url", required=True)
    base_url = parser.parse_args().base_url
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
    django.setup()
    call_command("migrate", verbosity=0)
    call_command("load_demo", base_url=base_url)


if __name__ == "__main__":
    main()
