"""docs/adr: its index names each page once, by the page's own title."""

import re
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs" / "adr"


def test_the_index_names_each_decision_by_its_title():
    index = (PAGES / "README.md").read_text()

    named = re.findall(r"^\* \[(\d{4})\]\((\S+)\) (.+)$", index, re.MULTILINE)

    titles = [
        (page.name[:4], page.name, page.read_text().partition("\n")[0].removeprefix("# ")[6:])
        for page in PAGES.glob("[0-9]*.md")
    ]
    assert sorted(named) == sorted(titles)
