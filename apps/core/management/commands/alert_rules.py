"""manage.py alert_rules: write the rules of Prometheus from the alerts, or notice a drift."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, override

import yaml
from django.conf import settings
from django.core.management.base import BaseCommand

from apps.core.alerts import ALERTS, Alert

FOLDER: Final = "deploy/observability"
RULES: Final = "kassa.rules.yaml"
RULES_TEST: Final = "kassa.rules.test.yaml"
_WRITTEN_BY: Final = "# Written by `manage.py alert_rules`; `make check` fails on a drift.\n"
# Everything that was to fire has fired by then.
_LOOKED_AT: Final = "8m"


class Command(BaseCommand):
    help = f"Write the rules of Prometheus to {FOLDER}; --check only compares."

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="Exit 1 if a file differs.")

    @override
    def handle(self, *, check: bool = False, **_: object) -> None:
        folder = Path(settings.BASE_DIR) / FOLDER
        for name, text in ((RULES, render_rules()), (RULES_TEST, render_tests())):
            path = folder / name
            if not check:
                path.write_text(text, encoding="utf-8")
            elif not path.exists() or path.read_text(encoding="utf-8") != text:
                self.stderr.write(f"{FOLDER}/{name} is out of date: run manage.py alert_rules")
                sys.exit(1)
        if not check:
            self.stdout.write(f"{len(ALERTS)} alerts written to {FOLDER}.")


def render_rules() -> str:
    """Return the file of rules."""
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expr,
            **({"for": alert.for_} if alert.for_ else {}),
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary, "runbook": alert.path},
        }
        for alert in ALERTS
    ]
    return _dump({"groups": [{"name": "kassa", "rules": rules}]})


def render_tests() -> str:
    """Return what `promtool test rules` tries: each alert fires, and stays silent."""
    tests = [test for alert in ALERTS for test in _tests(alert)]
    return _dump({"rule_files": [RULES], "evaluation_interval": "1m", "tests": tests})


def _tests(alert: Alert) -> Iterator[dict[str, Any]]:
    # Counted: the texts of one that fires would have to be said here to the last digit.
    firing = f'ALERTS{{alertname="{alert.name}",alertstate="firing"}}'
    for values, number in ((alert.fires, 1), (alert.silent, 0)):
        yield {
            "interval": "1m",
            "input_series": [{"series": alert.series, "values": values}],
            "promql_expr_test": [
                {
                    "expr": f"count({firing}) or vector(0)",
                    "eval_time": _LOOKED_AT,
                    "exp_samples": [{"labels": "{}", "value": number}],
                }
            ],
        }


def _dump(content: dict[str, Any]) -> str:
    return _WRITTEN_BY + yaml.safe_dump(content, sort_keys=False, width=100)
