"""
What was last found of the invariants, for whoever waits for it or tells it (ADR 0173).

The findings are kept in an app above, which registers how they are looked up and kept.
"""

from collections.abc import Callable, Collection

from django.apps import apps

from apps.core import invariants

type Finder = Callable[[], Collection[str]]
# Of all that were looked at, and those that did not hold.
type Keeper = Callable[[Collection[str], Collection[str]], object]

_finders: list[Finder] = []
_keepers: list[Keeper] = []


def register(*, find: Finder, keep: Keeper) -> None:
    """Have `find` say what did not hold as last seen, and `keep` keep what a whole run found."""
    _finders.append(find)
    _keepers.append(keep)


def keep_whole(looked_at: Collection[str], broken: Collection[str]) -> None:
    """Have what a whole run found be what was last seen."""
    for keep in _keepers:
        keep(looked_at, broken)


def list_broken(*, of_apps: Collection[str]) -> list[str]:
    """
    Return which of these apps' own invariants did not hold when last looked at.

    That work is overdue is not among them: it says nothing about what the rows say.
    """
    return sorted(name for name, holds in find_last(of_apps=of_apps).items() if not holds)


def find_last(*, of_apps: Collection[str]) -> dict[str, bool]:
    """Return of each of these apps' own invariants whether it held when last looked at."""
    broken = {name for find in _finders for name in find()}
    own = [name for label in of_apps for name in invariants.own_of(apps.get_app_config(label))]
    return {name: name not in broken for name in own}
