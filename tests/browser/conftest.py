"""A real Chromium before a real server on real Postgres; a complaint of it fails the test."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from apps.backoffice import operations
from apps.core import clock
from tests.backoffice import world

SHOTS = Path(__file__).resolve().parents[2] / "var" / "screenshots"
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# Playwright's own loop runs in this thread; Django would refuse the ORM beside it.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """Return the browser, started once."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield started
        started.close()


@dataclass
class Desk:
    """One person before one browser window, and everything the browser complained of."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)
    expected: set[int] = field(default_factory=set)

    def watch(self) -> None:
        """Keep what must not happen: console errors, faults of pages, requests that fail."""
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda fault: self.complaints.append(f"page error: {fault}"))
        self.page.on(
            "requestfailed",
            lambda request: self.complaints.append(f"failed: {request.url} {request.failure}"),
        )
        self.page.on("response", self._answered)

    def _heard(self, message: Any) -> None:
        # A page that is refused on purpose is also told of on the console.
        if message.type in {"error", "warning"} and not (
            self.expected and "Failed to load resource" in message.text
        ):
            self.complaints.append(f"console {message.type}: {message.text}")

    def _answered(self, response: Any) -> None:
        if response.status >= 400 and response.status not in self.expected:
            self.complaints.append(f"{response.status}: {response.url}")

    def sign_in(self, login: str) -> "Desk":
        """Sign in by the form, as a person does."""
        self.go("/admin/login/")
        self.page.get_by_label("E-mail").fill(f"{login}@kassa.test")
        self.page.get_by_label("Password").fill(world.PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url("**/admin/")
        return self

    def go(self, path: str) -> "Desk":
        """Open an address and wait until all of it is there."""
        self.page.goto(f"{self.base}{path}", wait_until="load")
        return self

    def shoot(self, name: str) -> None:
        """Keep a picture under `var/screenshots/`."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png")


@pytest.fixture
def house(transactional_db: None) -> world.House:
    """Return the house in full use, committed: the server answers from threads of its own."""
    made = world.build_lively(days=2)
    operations.roll_up(organization_id=made.id, now=clock.now())
    operations.check_invariants(now=clock.now())
    return made


@pytest.fixture
def sit_down(browser: Browser, live_server: Any, house: world.House) -> Iterator[Any]:
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
