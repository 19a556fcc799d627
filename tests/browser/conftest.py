"""A real Chromium before a real server on real Postgres; a complaint of it fails the test."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from apps.backoffice import operations
from apps.core import clock
from tests.backoffice import world
from tests.backoffice.house import House
from tests.browser.desk import ARGUMENTS, Desk
from tests.snapshots import from_snapshot

# Playwright's own loop runs in this thread; Django would refuse the ORM beside it.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """Return the browser, started once."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield started
        started.close()


@pytest.fixture
def house(transactional_db: None) -> House:
    """Return the house in full use, committed: the server answers from threads of its own."""
    return from_snapshot(_build)


def _build() -> House:
    made = world.build_lively(days=2)
    operations.roll_up(organization_id=made.id, now=clock.now())
    operations.check_invariants(now=clock.now())
    return made


@pytest.fixture
def sit_down(browser: Browser, live_server: Any, house: House) -> Iterator[Any]:
    """Return who opens a window of its own: each person has cookies of their own."""
    desks: list[Desk] = []

    def open_window(login: str = "", **options: Any) -> Desk:
        wanted = {"viewport": {"width": 1440, "height": 900}, **options}
        desk = Desk(browser.new_context(**wanted).new_page(), live_server.url)
        desk.watch()
        desks.append(desk)
        return desk.sign_in(login) if login else desk

    yield open_window
    complaints = [complaint for desk in desks for complaint in desk.complaints]
    for desk in desks:
        desk.page.context.close()
    assert complaints == []
