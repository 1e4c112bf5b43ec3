"""A real file system of a few pages, which really fills."""

import os
import subprocess
from pathlib import Path


class SmallDisk:
    """A file system in memory, mounted on a folder for the time of a `with` block.

    Entering it raises OSError, with the reason, where none can be mounted: only root may, and not in every container.
    """

    PAGE = 4096

    def __init__(self, folder: Path, pages: int = 256) -> None:
        self.folder = folder
        self._pages = pages
        self._filler = folder / "filler"

    def __enter__(self) -> "SmallDisk":
        self.folder.mkdir()
        size = f"size={self._pages * self.PAGE}"
        try:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(self.folder)],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise OSError(f"no file system can be mounted here: {error}") from error
        if done.returncode:
            raise OSError(f"no file system can be mounted here: {done.stderr.strip()}")
        return self

    def __exit__(self, *exception: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def leave(self, pages: int) -> None:
        """Fill it but for so many pages."""
        status = os.statvfs(self.folder)
        self._filler.write_bytes(b"x" * (status.f_bavail * status.f_frsize - pages * self.PAGE))

    def make_room(self) -> None:
        """Take out again what filled it."""
        self._filler.unlink()
