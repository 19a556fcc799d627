"""What staff take out of the house by their browser."""

import csv
from pathlib import Path

import pytest
from playwright.sync_api import expect

from apps.core.models import AuditEvent

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_trial_balance_is_taken_out_as_it_stands_on_the_screen(sit_down, house):
    desk = sit_down("anton")
    desk.go("/admin/trial-balance/?currency=EUR")
    # The table behind it is the balance sheet.
    lines_shown = desk.page.locator("table").first.locator("tbody tr td:first-child")
    shown = lines_shown.all_inner_texts()
    desk.page.get_by_role("link", name="Export", exact=True).click()
    expect(desk.page.get_by_label("Currency")).to_have_value("EUR")
    desk.page.get_by_role("button", name="For the month's close.").click()
    desk.shoot("trial-balance-export")
    desk.takes_files = True
    with desk.page.expect_download() as taken:
        desk.page.get_by_role("button", name="Export the trial balance").click()

    lines = list(csv.reader(Path(taken.value.path()).read_text().splitlines()))
    assert taken.value.suggested_filename.startswith("trial-balance-org_")
    assert [line[1] for line in lines[3:-1] if line[0] == "line"] == shown
    assert lines[-1] == ["rows", str(len(lines) - 4)]
    assert AuditEvent.objects.filter(act="core.export").count() == 2
