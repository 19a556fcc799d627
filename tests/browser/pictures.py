"""The README's pictures of the back office, from demo data alone."""

from datetime import timedelta
from pathlib import Path

from django.test.runner import DiscoverRunner
from playwright.sync_api import Browser, sync_playwright
from pytest_django.live_server_helper import LiveServer

from apps.backoffice import operations
from apps.core import clock
from tests.backoffice import world
from tests.browser.desk import ARGUMENTS, Desk, find_chromium

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "images"
DAYS = 30


def take_all() -> None:
    """Make a house with a month behind it, and take its pictures."""
    runner = DiscoverRunner(verbosity=0, interactive=False)
    databases = runner.setup_databases()
    server = None
    try:
        house = world.build_lively(days=DAYS)
        since = (clock.now() - timedelta(days=DAYS + 5)).date()
        operations.roll_up_since(organization_id=house.id, since=since, now=clock.now())
        operations.check_invariants(now=clock.now())
        server = LiveServer("127.0.0.1")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=list(ARGUMENTS)
            )
            take(browser, server.url)
            browser.close()
    finally:
        if server is not None:
            server.stop()
        runner.teardown_databases(databases)


def take(browser: Browser, base: str) -> None:
    """Take the pictures, each of what the README speaks of."""
    light = open_desk(browser, base, scheme="light")
    dark = open_desk(browser, base, scheme="dark")
    shoot(light, "/admin/", "home")
    shoot(dark, "/admin/", "home-dark")
    shoot(light, "/admin/payouts/payout/", "payouts")
    shoot(light, "/admin/trial-balance/", "trial-balance")
    shoot(light, "/admin/ledger/ledgeraccount/?under=customers", "ledger-accounts")
    shoot(dark, "/admin/banking/bankline/", "bank-lines-dark")
    light.go("/admin/approvals/approvalrequest/")
    light.page.get_by_role("link", name="Pay out 1,250.00 EUR").click()
    picture(light, "approval")
    light.go("/admin/accounts/customer/")
    light.page.locator("tr", has_text="merchant-1003").get_by_role("link").first.click()
    picture(light, "customer")


def open_desk(browser: Browser, base: str, *, scheme: str) -> Desk:
    """Open a window for the person whose home page shows most."""
    context = browser.new_context(
        viewport={"width": 1440, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]  # light or dark
    )
    return Desk(context.new_page(), base).sign_in("noor")


def shoot(desk: Desk, path: str, name: str) -> None:
    """Open an address and keep its picture."""
    desk.go(path)
    picture(desk, name)


def picture(desk: Desk, name: str) -> None:
    """Keep a picture of what stands on the screen."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    desk.page.wait_for_load_state("networkidle")
    desk.page.screenshot(path=PICTURES / f"{name}.png")
