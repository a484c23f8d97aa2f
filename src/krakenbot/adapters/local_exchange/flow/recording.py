"""Read the recorded live session: where it is, its order events and its books.

In: a folder of CSV files (see docs/flow.md). Out: events and book states in ticks and lots. Called by
`RecordedFlow` and by the script that fits flow parameters.
"""

from __future__ import annotations

import os
from pathlib import Path

SESSION = "btc-eth-sol-doge-2024-11-12"


def find_recordings(explicit: Path | None = None) -> Path:
    """Return the folder of recordings: the given one, else $KRAKENBOT_RECORDINGS, else ../shared/kraken.

    Both the folder itself and a parent that holds it as `recordings` are accepted.

    Raises FileNotFoundError when none of them has an instrument snapshot.
    """
    from_environment = os.environ.get("KRAKENBOT_RECORDINGS")  # noqa: TID251  # the one place that looks for it
    if explicit is not None:
        candidates = [explicit]
    elif from_environment:
        candidates = [Path(from_environment)]
    else:
        candidates = [Path("../shared/kraken"), Path(__file__).parents[5].parent / "shared/kraken"]
    for candidate in candidates:
        for folder in (candidate, candidate / "recordings"):
            if (folder / "instrument-snapshot.json").is_file():
                return folder
    looked = ", ".join(str(candidate) for candidate in candidates)
    raise FileNotFoundError(
        f"no recordings in {looked}: set KRAKENBOT_RECORDINGS to the folder that holds instrument-snapshot.json, "
        "or use the seeded flow"
    )
