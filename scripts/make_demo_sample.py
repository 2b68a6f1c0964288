"""Make the demo's sample of flights: every 32nd record of the whole year's file.

    python scripts/make_demo_sample.py ../shared/data/flights.ndjson.gz

The same input makes the same bytes. The output is src/backdrop/demo/flights.ndjson.gz.
"""

from __future__ import annotations

import gzip
import itertools
import sys
from pathlib import Path

EVERY = 32
MOST_BYTES = 300 * 1024
OUTPUT = Path(__file__).parent.parent / "src/backdrop/demo/flights.ndjson.gz"


def main(source: Path) -> None:
    with gzip.open(source) as lines:
        sample = b"".join(itertools.islice(lines, 0, None, EVERY))
    packed = gzip.compress(sample, compresslevel=9, mtime=0)
    if len(packed) > MOST_BYTES:
        sys.exit(f"{len(packed)} bytes are too many: at most {MOST_BYTES} are packaged")
    OUTPUT.write_bytes(packed)
    print(f"{OUTPUT.name}: {len(sample.splitlines())} records, {len(packed)} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
