"""How much a search looks at before it answers (ADR 0080)."""

from datetime import UTC, datetime, timedelta
from typing import Final

# How many rows are looked at at a time where only a filter decides: 10 to 50 ms.
SCAN_ROWS_MAX: Final = 5_000
# Up to so many entries with some metadata are sorted; more of them are met soon on the way.
CANDIDATES_MAX: Final = 5_000
LOOK_UPS_MAX: Final = 50_000
# A window of time is searched in growing steps. A step costs what lies in it: each is so long that
# it should be done in the time that is left, and that Postgres expects no more rows in it.
STEP_FIRST: Final = timedelta(hours=1)
STEP_LEAST: Final = timedelta(seconds=1)
STEP_GROWS: Final = 8
STEP_ROWS_MAX: Final = 50_000
STEP_SECONDS_IDLE: Final = 0.01
# After this long a search answers what it has, and where it stopped.
PATIENCE_SECONDS: Final = 0.1
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
