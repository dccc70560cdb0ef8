"""Disks that can lose their power.

A file of ext4 lies on XFS, which copies a file in an instant by sharing its blocks, and is mounted by a loop
device. What a program wrote and did not sync is in the page cache of that ext4 alone; so a copy of the file,
taken while every program stands still, is what a disk holds when the power goes. What the copy does not
model is a disk that lies about its own cache.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

from tests.support.child import RigError

_OUTER_BYTES = 24 << 30
_NEW_MOUNTS = 0x0002_0000
"""CLONE_NEWNS of unshare(2)."""


class PowerGrid:
    """An XFS in a file, on which disks lie. Needs root, loop devices and xfsprogs."""

    def __init__(self, home: Path) -> None:
        """Describe one; nothing is made."""
        self._image = home / "grid.xfs"
        self.folder = home / "grid"
        self._disks: list[Disk] = []

    def __enter__(self) -> PowerGrid:
        _leave_the_mounts_of_others()
        self.folder.mkdir()
        _allocate(self._image, _OUTER_BYTES)
        run("mkfs.xfs", "-q", "-m", "reflink=1", self._image)
        run("mount", "-o", "loop", self._image, self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        for disk in self._disks:
            disk.unmount()
        run("umount", self.folder)
        self._image.unlink()

    def prove_itself(self) -> None:
        """Cut the power of a disk and see what is left; fill one and see that nothing fits.

        Raises:
            RigError: something synced is gone, something that wasn't is there, or a full disk isn't.
        """
        disk = self.disk(self.folder.with_name("proof"), 64 << 20)
        synced, unsynced = disk.mount_point / "synced", disk.mount_point / "unsynced"
        with synced.open("wb") as file:
            file.write(b"synced")
            file.flush()
            os.fsync(file.fileno())
        unsynced.write_bytes(b"unsynced")
        with synced.open("ab") as file:
            file.write(b" and more")
        disk.freeze_frame()
        disk.come_back()
        if synced.read_bytes() != b"synced" or unsynced.exists():
            raise RigError("a power cut on this machine is none: it keeps what was never synced")
        disk.fill()
        if _fits(unsynced):
            raise RigError("a full disk on this machine is none")
        disk.empty()
        if not _fits(unsynced):
            raise RigError("a disk that was emptied is still full")

    def disk(self, mount_point: Path, size_bytes: int) -> Disk:
        """A new, empty disk, mounted there; unmounted at the end."""
        disk = Disk(self.folder / f"{mount_point.name}.ext4", mount_point)
        disk.make(size_bytes)
        self._disks.append(disk)
        return disk


def lacking(home: Path) -> str | None:
    """What this machine lacks for such disks; None: nothing."""
    folder = home / "lacking"
    folder.mkdir()
    try:
        with PowerGrid(folder) as grid:
            grid.prove_itself()
    except RigError as error:
        return str(error)
    return None


class Disk:
    """One ext4, and where it is mounted."""

    def __init__(self, image: Path, mount_point: Path) -> None:
        self._image = image
        self._copy = image.with_suffix(".copy")
        self.mount_point = mount_point

    def make(self, size_bytes: int) -> None:
        """Make and mount it."""
        _allocate(self._image, size_bytes)
        run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", self._image)
        self.mount_point.mkdir()
        self._mount()

    def sync(self) -> None:
        """Let everything that was written be on it."""
        run("sync", "-f", self.mount_point)

    def freeze_frame(self) -> None:
        """Copy what a power cut would leave now; whoever writes must stand still."""
        self._copy.unlink(missing_ok=True)
        run("cp", "--reflink=always", self._image, self._copy)

    def come_back(self) -> None:
        """Mount the copy in place of the disk, from which nobody may have a file open any more."""
        self.unmount()
        self._copy.replace(self._image)
        self._mount()

    def fill(self) -> None:
        """Take all the room that is left."""
        with self._ballast.open("wb") as file:
            free = os.statvfs(self.mount_point)
            size = free.f_bavail * free.f_frsize
            while size >= free.f_frsize:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
                except OSError:
                    size //= 2

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)

    def used_bytes(self) -> int:
        """How much of it is in use."""
        found = os.statvfs(self.mount_point)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def unmount(self) -> None:
        """Take it off, if it is on."""
        if os.path.ismount(self.mount_point):
            run("umount", self.mount_point)

    def _mount(self) -> None:
        run("mount", "-o", "loop,noatime,commit=300", self._image, self.mount_point)

    @property
    def _ballast(self) -> Path:
        return self.mount_point / "ballast"


def run(program: str, *arguments: str | Path) -> str:
    """Run a program of the system to its end and return what it printed.

    Raises:
        RigError: it is missing, or failed.
    """
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=60, check=True, env=_env()
        )
    except FileNotFoundError:
        raise RigError(f"{program} is missing") from None
    except subprocess.CalledProcessError as error:
        raise RigError(f"{program} failed: {error.stderr.strip()}") from error
    return done.stdout


def _leave_the_mounts_of_others() -> None:
    """What is mounted from now on is seen by this thread and what it starts alone, and goes with the last of
    them, however they end.

    Raises:
        RigError: the kernel refuses it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS):
        raise RigError(f"no mounts of one's own here: {os.strerror(ctypes.get_errno())}")
    run("mount", "--make-rprivate", "/")


def _fits(path: Path) -> bool:
    try:
        path.write_bytes(b"x" * 100_000)
    except OSError:
        path.unlink(missing_ok=True)
        return False
    return True


def _env() -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


def _allocate(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(size_bytes)
