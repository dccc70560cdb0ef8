"""What is loaded into the services before the C library: a clock that can jump, and a disk that can fail."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.child import RigError

_SOURCE = Path(__file__).with_name("failing_sync.c")
_FAKETIME = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime")


@dataclass(frozen=True, slots=True)
class Preloads:
    """The libraries, and the files by which they are told what to do."""

    failing_sync: Path
    fail_file: Path
    tally_file: Path
    faketime: Path | None
    clock_file: Path

    @classmethod
    def build(cls, home: Path) -> Preloads:
        """Compile ours and look for libfaketime.

        Raises:
            RigError: there is no C compiler.
        """
        library = home / "failing_sync.so"
        command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl", "-lpthread"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        except FileNotFoundError:
            raise RigError("gcc is missing") from None
        found = [Path(folder) / "libfaketimeMT.so.1" for folder in _FAKETIME]
        faketime = next((path for path in found if path.exists()), None)
        made = cls(library, home / "sync.fails", home / "sync.tally", faketime, home / "clock")
        made.set_clock(0)
        return made

    def env(self) -> dict[str, str]:
        """The environment of a process whose disk can fail."""
        return {
            "FAIL_SYNC_FILE": str(self.fail_file),
            "FAIL_SYNC_TALLY": str(self.tally_file),
            "LD_PRELOAD": str(self.failing_sync),
        }

    def env_of_jumping_clock(self) -> dict[str, str]:
        """The same, and its clock can jump; this makes it slow, so it is only for who needs it."""
        return {
            **self.env(),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock_file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
            "FAKETIME_CACHE_DURATION": "1",
            "LD_PRELOAD": f"{self.failing_sync}:{self.faketime}",
        }

    def set_clock(self, offset_s: int) -> None:
        """Let the wall clock of those processes differ from the machine's by so many seconds, within one
        second; their monotonic clocks go on."""
        new = self.clock_file.with_suffix(".new")
        new.write_text(f"{offset_s:+d}\n")
        new.replace(self.clock_file)

    def fail_syncs(self, fails: bool) -> None:
        """Let each fsync and fdatasync of a spool fail from now on, and lose what it should have kept."""
        if fails:
            self.fail_file.write_text("")
        else:
            self.fail_file.unlink(missing_ok=True)

    def failed_syncs(self) -> int:
        """How many have failed so far."""
        return self.tally_file.stat().st_size if self.tally_file.exists() else 0
