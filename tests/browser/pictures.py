"""The README's pictures of the back office, from demo data alone."""

from datetime import timedelta
from pathlib import Path

from django.db import connection
from django.test.runner import DiscoverRunner
from playwright.sync_api import Browser, sync_playwright
from pytest_django.live_server_helper import LiveServer

from apps.backoffice import operations
from apps.core import clock, jobs, working
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
    light.go("/admin/approvals/approvalrequest/")
    light.page.get_by_role("link", name="Pay out 1,250.00 EUR").click()
    picture(light, "approval")
    light.go("/admin/accounts/customer/")
    light.page.locator("tr", has_text="merchant-1003").get_by_role("link").first.click()
    picture(light, "customer")
    light.go("/admin/webhooks/webhookendpoint/")
    light.page.get_by_role("link", name="legacy.demo-markets.example").click()
    picture(light, "webhook-endpoint")
    # Last: what the jobs do to the house stands in no other picture.
    run_jobs()
    shoot(dark, "/admin/stuck-work/", "stuck-work-dark")


def run_jobs() -> None:
    """Run what is due by now of every job but one, whose period was set aside."""
    world.set_aside_a_period()
    jobs.plan_due(now=clock.now())
    while working.work_due(jobs.RUNNING):
        pass
    # Beside Playwright's loop the ORM has a connection of its own, which would keep the database.
    connection.close()


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
