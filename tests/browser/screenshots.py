"""`make screenshots`: take the README's pictures, in a database that is made for it and goes."""

import os

import django


def main() -> None:
    """Load the settings of tests, and take the pictures."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings.test"
    os.environ.setdefault("KASSA_TEST_DB", "kassa_screenshots")
    # Playwright's own loop runs in this thread; Django would refuse the ORM beside it.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    django.setup()

    from tests.browser import pictures  # noqa: PLC0415  (needs the apps loaded)

    pictures.take_all()


if __name__ == "__main__":
    main()
