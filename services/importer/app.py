"""The sequence of `rejse import`: check everything, go on where the last try ended, read and send."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from services.importer.batches import Batch, batches
from services.importer.display import Display
from services.importer.journal import Fingerprint, Journal, Progress, load
from services.importer.map_file import parse
from services.importer.mapping import Map
from services.importer.rows import Rows
from services.importer.sender import Sender
from shared.clock import Clock
from shared.errors import ConfigError

HEAD_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Import:
    """What is asked for. `restart` forgets an earlier try's progress."""

    file: Path
    map_file: Path
    url: str
    key: str
    state_file: Path
    refused_file: Path
    in_flight: int = 4
    compress: bool = False
    give_up_after_s: float = 300.0
    restart: bool = False


async def run_import(wanted: Import, display: Display, clock: Clock) -> Progress:
    """Import a file to its end, and say how it went.

    Raises:
        ConfigError: the map, the file, the address, the key or an earlier try's progress is wrong.
        Transient: ingest has taken nothing for too long; the progress is kept.
    """
    map_text = _read_map(wanted.map_file)
    map_ = parse(map_text, str(wanted.map_file))
    with _opened(wanted.file) as file:
        fingerprint = Fingerprint(
            *_head(file), map_sha256=sha256(map_text.encode()).hexdigest(), url=wanted.url.rstrip("/")
        )
        progress = _progress(wanted, fingerprint, file)
        rows = Rows(file, map_.format, map_.columns, progress.place)
        async with _sender(wanted, display, clock) as sender:
            journal = Journal(progress, wanted.state_file, wanted.refused_file, clock)
            with display:
                display.show(progress.place, progress.refused)
                await _send_all(rows, map_, sender, journal, display, wanted.in_flight)
            return journal.progress


async def _send_all(
    rows: Rows, map_: Map, sender: Sender, journal: Journal, display: Display, in_flight: int
) -> None:
    """Read on one side and send on the other, with a few requests on the way at once."""
    queue: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=in_flight)

    async def read() -> None:
        for batch in batches(rows, map_):
            await queue.put(batch)
        for _ in range(in_flight):
            await queue.put(None)

    async def send() -> None:
        while (batch := await queue.get()) is not None:
            if batch.events:
                for refusal in await sender.send(batch.events):
                    batch.refuse(refusal.index, refusal.code, refusal.message, refusal.pointer)
            journal.answered(batch)
            display.show(journal.progress.place, journal.progress.refused)

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read(), name="read")
            for number in range(in_flight):
                tasks.create_task(send(), name=f"send-{number}")
        journal.finish()
    except ExceptionGroup as errors:
        raise _first(errors) from errors
    finally:
        journal.save()


def _first(errors: ExceptionGroup[Exception]) -> Exception:
    """One of them: the senders fail together, and for one reason."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


@contextlib.asynccontextmanager
async def _sender(wanted: Import, display: Display, clock: Clock) -> AsyncIterator[Sender]:
    sender = Sender(
        wanted.url,
        wanted.key,
        clock=clock,
        note=display.note,
        give_up_after_s=wanted.give_up_after_s,
        compress=wanted.compress,
    )
    try:
        yield sender
    finally:
        await sender.close()


def _progress(wanted: Import, fingerprint: Fingerprint, file: BinaryIO) -> Progress:
    """Where to begin: at the start, or where an import of the same file with the same map ended."""
    earlier = None if wanted.restart else load(wanted.state_file)
    if earlier is None:
        return Progress(fingerprint)
    then, now = earlier.fingerprint, fingerprint
    changed = [
        what
        for what, same in (
            (f"{wanted.file}", _same_head(earlier, file)),
            (f"{wanted.map_file}", then.map_sha256 == now.map_sha256),
            ("--url", then.url == now.url),
        )
        if not same
    ]
    if changed:
        raise ConfigError(
            f"{wanted.state_file} tells of an import that is not this one: {', '.join(changed)} changed; "
            "begin anew with --restart, or name another file with --state"
        )
    return Progress(then, earlier.place, earlier.refused, earlier.refused_bytes)


def _same_head(earlier: Progress, file: BinaryIO) -> bool:
    """Whether the file begins as it did, and goes on behind a whole line if it has grown."""
    head_bytes = earlier.fingerprint.head_bytes
    if _digest(file, head_bytes) != (head_bytes, earlier.fingerprint.head_sha256):
        return False
    offset, size = earlier.place.offset, file.seek(0, 2)
    if offset in (0, size):
        return True
    file.seek(offset - 1)
    return offset < size and file.read(1) == b"\n"


def _head(file: BinaryIO) -> tuple[int, str]:
    return _digest(file, HEAD_BYTES)


def _digest(file: BinaryIO, bytes_max: int) -> tuple[int, str]:
    """How much of the file's head there is, and its digest; the file is left at its start."""
    file.seek(0)
    head = file.read(bytes_max)
    file.seek(0)
    return len(head), sha256(head).hexdigest()


def _read_map(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8") from None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file, locked against a second import of it: their progress would mix."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    with file:
        if not file.seekable():
            raise ConfigError(f"{path}: is no regular file")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{path}: another import of it is running") from None
        yield file
