"""Rules of Prometheus: over metrics that exist, with a page that exists, and they fire."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from django.core.management import call_command

from apps.core import counters, metrics
from apps.core.alerts import ALERTS
from apps.core.management.commands.alert_rules import FOLDER, RULES, RULES_TEST
from tests.support import ROOT

PARTS = ("## Symptom", "## Look", "## Act", "## Verify")
RUNBOOKS = sorted(Path(ROOT, "docs", "runbooks").glob("*.md"))
# What Postgres, Redis and the database's own functions call it.
THEIRS = {
    "core_outbox_event_before",
    "n_dead_tup",
    "pg_monitor",
    "pg_stat_user_tables",
    "used_memory",
}


@pytest.fixture
def promtool():
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool here (apt-get install prometheus): the rules were not tried")
    return found


@pytest.mark.django_db(transaction=True)
def test_are_over_what_the_exporter_tells():
    told = {gauge.name for gauge in metrics.read_gauges()} | {"kassa_gauges_read"}
    told |= {counter.name for counter in counters.declared()}

    for alert in ALERTS:
        named = set(re.findall(r"kassa_\w+", alert.expr))
        assert named
        assert named <= told
        assert alert.series.partition("{")[0] in named


def test_are_written_down_as_they_are():
    call_command("alert_rules", check=True)

    written = yaml.safe_load((ROOT / FOLDER / RULES).read_text())
    [group] = written["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [alert.name for alert in ALERTS]


def test_that_were_changed_by_hand_fail_the_check(settings, tmp_path):
    settings.BASE_DIR = tmp_path
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    call_command("alert_rules", verbosity=0)
    (folder / RULES).write_text((folder / RULES).read_text().replace("> 120", "> 1200"))

    with pytest.raises(SystemExit):
        call_command("alert_rules", check=True)


@pytest.mark.parametrize("path", sorted({alert.path for alert in ALERTS}))
def test_lead_to_a_page_that_says_what_next(path):
    text = Path(ROOT, path).read_text()

    assert [part for part in PARTS if f"\n{part}\n" not in text] == []


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_whose_pages_name_what_there_is(path):
    """Lines of the log, metrics, columns and settings: who is woken looks for these words."""
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", path.read_text())) - THEIRS
    sources = [each for part in ("apps", "config") for each in Path(ROOT, part).rglob("*.py")]
    words = set(re.findall(r"\w+", " ".join(each.read_text() for each in sources)))

    assert named - words == set()


def test_fire_and_stay_silent(promtool):
    for arguments in (["check", "rules", RULES], ["test", "rules", RULES_TEST]):
        tried = subprocess.run(
            [promtool, *arguments], cwd=ROOT / FOLDER, capture_output=True, text=True, check=False
        )

        assert tried.returncode == 0, tried.stdout + tried.stderr
