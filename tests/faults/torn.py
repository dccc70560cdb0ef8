"""Half-written ends of files, as a disk may leave them that loses power while it writes."""

from __future__ import annotations

import struct
from pathlib import Path

_WAL_HEADER = struct.Struct(">8I")
_FRAME_HEADER = struct.Struct(">6I")
_TORN = b"torn by the campaign"


def tear_wal(path: Path) -> None:
    """Write the first half of another frame behind the last one of a SQLite write-ahead log: it claims to end
    a transaction, and its checksum is wrong."""
    content = path.read_bytes()
    if len(content) < _WAL_HEADER.size:
        return
    header = _WAL_HEADER.unpack_from(content)
    page_bytes, salts = header[2], header[4:6]
    end = _WAL_HEADER.size
    while end + _FRAME_HEADER.size <= len(content):
        if _FRAME_HEADER.unpack_from(content, end)[2:4] != salts:
            break
        end += _FRAME_HEADER.size + page_bytes
    torn = _FRAME_HEADER.pack(1, 7, *salts, 0, 0) + (_TORN * page_bytes)[: page_bytes // 2]
    with path.open("r+b") as file:
        file.seek(end)
        file.write(torn)


def tear_segment(partition: Path) -> Path | None:
    """Write the beginning of another batch behind the last one of a Kafka partition; returns the file."""
    segments = sorted(partition.glob("*.log"))
    if not segments:
        return None
    offset = int(segments[-1].stem) + (1 << 20)
    # Offset, length, leader epoch, magic 2, a checksum that is wrong, and not all that was announced.
    torn = struct.pack(">qiibI", offset, 4_096, 0, 2, 0xDEADBEEF) + _TORN * 20
    with segments[-1].open("ab") as file:
        file.write(torn)
    return segments[-1]


def is_torn(path: Path) -> bool:
    """Whether the half-written end is still there."""
    return _TORN in path.read_bytes()
