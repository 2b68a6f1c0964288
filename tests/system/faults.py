"""A disk that fails on purpose: a library that is preloaded into a server, and what steers it."""

from __future__ import annotations

import errno
import mmap
import struct
import subprocess
from pathlib import Path
from types import TracebackType

SOURCE = Path(__file__).with_name("disk_faults.c")

WRITE, SYNC, RESIZE = 1, 2, 4
FULL, BROKEN = errno.ENOSPC, errno.EIO

_CONTROL = struct.Struct("=qqqqii")
"""The fields of the library's `struct control`."""
_FOR_EVER = 2**62


def compiled(folder: Path) -> Path:
    """The library, made from its source."""
    library = folder / "disk_faults.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl"],
        check=True,
    )
    return library


class Disk:
    """The disk under the files whose paths begin with `prefix`, for servers started with `env`."""

    def __init__(self, library: Path, folder: Path, prefix: Path) -> None:
        control = folder / "disk_faults.control"
        control.write_bytes(bytes(_CONTROL.size))
        with control.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), _CONTROL.size)
        self.env = {
            "LD_PRELOAD": str(library),
            "DISK_FAULTS": str(control),
            "DISK_FAULTS_ON": str(prefix),
        }

    def __enter__(self) -> Disk:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._control.close()

    def fail(self, first: int, *, error: int = FULL, kinds: int = WRITE) -> None:
        """From now on, let the `first` call of those kinds fail, and all that follow."""
        _CONTROL.pack_into(self._control, 0, 0, first, _FOR_EVER, 0, kinds, error)

    def heal(self) -> None:
        """There is room again, and the disk is well."""
        _CONTROL.pack_into(self._control, 0, 0, 0, 0, 0, 0, 0)

    @property
    def calls(self) -> int:
        """How many calls of those kinds there were since it was told to."""
        found: int = _CONTROL.unpack_from(self._control)[0]
        return found

    @property
    def failed(self) -> int:
        """How many calls have failed since it was told to."""
        found: int = _CONTROL.unpack_from(self._control)[3]
        return found
