"""The real flights that tests run on: all of 2013 where the file is there, else the sample.

A checkout that stands beside the full data uses it; any other uses what the package carries.
"""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_FULL = _ROOT.parent / "shared" / "data" / "flights.ndjson.gz"
_SAMPLE = _ROOT / "src" / "backdrop" / "demo" / "flights.ndjson.gz"

FILE = _FULL if _FULL.exists() else _SAMPLE
IS_FULL = FILE == _FULL
FLIGHTS_OF_2013 = 336_776


@cache
def flights() -> list[dict[str, Any]]:
    """Every flight as it stands in the file, and its instant as `time`."""
    with gzip.open(FILE) as lines:
        found = [json.loads(line) for line in lines]
    if IS_FULL and len(found) != FLIGHTS_OF_2013:
        raise ValueError(f"{FILE} holds {len(found)} flights, not {FLIGHTS_OF_2013}")
    for flight in found:
        flight["time"] = datetime.fromisoformat(flight["_timestamp"])
    return found
