"""Under the stock theme every screen answers and every act works: unfold is a look, no more."""

import json
import os
import subprocess
import sys

import pytest
from django.db import connection

from tests.backoffice.screens import pages
from tests.support import ROOT

PROGRAM = """
import json, os, sys
import django
django.setup()
from django.apps import apps
from django.test import Client
from django.test.utils import setup_test_environment
setup_test_environment()
from apps.accounts.models import Staff
assert not apps.is_installed("unfold")
client = Client()
client.force_login(Staff.objects.get(email="noor@kassa.test"))
asked = json.load(sys.stdin)
found = {url: client.get(url).status_code for url in asked["urls"]}
act = asked["act"]
token = client.get(act).context["form"]["form_token"].value()
sent = {"form_token": str(token), "reason": "Asked for twice."}
found["act"] = client.post(act, sent).status_code
print(json.dumps(found))
"""


@pytest.mark.django_db(transaction=True)
def test_every_screen_answers_and_an_act_works_under_the_stock_theme():
    from tests.backoffice import world  # noqa: PLC0415  (a house of its own, committed)

    house = world.build_lively(days=2)
    payout = house.payouts["scheduled"]
    urls = [page.url for page in pages()]
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "KASSA_ADMIN_THEME": "stock",
        "KASSA_IN_TEST": "1",
        "KASSA_TEST_DB_NAME": connection.settings_dict["NAME"],
    }

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps({"urls": urls, "act": f"/admin/payouts/payout/{payout.id}/act/cancel/"}),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    payout.refresh_from_db()
    assert {url: status for url, status in found.items() if status not in {200, 302, 403}} == {}
    assert found["/admin/"] == 200
    assert found["act"] == 302
    assert payout.state == "canceled"
