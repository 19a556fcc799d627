"""A person before a browser window, and what the browser complained of meanwhile."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.backoffice.house import PASSWORD
from tests.support import BROWSERS

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


@dataclass
class Desk:
    """One person before one browser window, and everything the browser complained of."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)
    expected: set[int] = field(default_factory=set)
    takes_files: bool = False

    def watch(self) -> None:
        """Keep what must not happen: console errors, faults of pages, requests that fail."""
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda fault: self.complaints.append(f"page error: {fault}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._answered)

    def _heard(self, message: Any) -> None:
        # A page that is refused on purpose is also told of on the console.
        if message.type in {"error", "warning"} and not (
            self.expected and "Failed to load resource" in message.text
        ):
            self.complaints.append(f"console {message.type}: {message.text}")

    def _failed(self, request: Any) -> None:
        # What a page was still loading, an icon say, the browser gives up itself where it goes to
        # the next; a server that fails has other names. Where a file is the answer, it stays on the
        # page and calls that an abort.
        is_given_up = request.failure == "net::ERR_ABORTED"
        if not (is_given_up and (self.takes_files or not request.is_navigation_request())):
            self.complaints.append(f"failed: {request.url} {request.failure}")

    def _answered(self, response: Any) -> None:
        if response.status >= 400 and response.status not in self.expected:
            self.complaints.append(f"{response.status}: {response.url}")

    def sign_in(self, login: str) -> "Desk":
        """Sign in by the form, as a person does."""
        self.go("/admin/login/")
        self.page.get_by_label("E-mail").fill(f"{login}@kassa.test")
        self.page.get_by_label("Password").fill(PASSWORD)
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


def find_chromium() -> str:
    """Return the path of a Chromium; fail where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        message = "There is no Chromium here: apt-get install chromium"
        raise SystemExit(message)
    return found
