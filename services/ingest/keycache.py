"""The keys that ingest knows: from the store every few seconds, and from disk while the store is away."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from shared.clock import Clock
from shared.keys import KeyRecord, Keyring
from shared.logs import fields

LoadKeys = Callable[[], Awaitable[Sequence[KeyRecord]]]
"""Asks the store for the keys that are valid now; raises when it can't."""

REFRESH_S = 2.0

_log = logging.getLogger(__name__)
_decoder = msgspec.json.Decoder(list[KeyRecord])


class KeyCache:
    """The keyring of the last answer of the store, or of the last one that an earlier process got."""

    def __init__(self, path: Path, load: LoadKeys, clock: Clock) -> None:
        self._path = path
        self._load = load
        self._clock = clock
        self._keys: list[KeyRecord] | None = None
        self._ring = Keyring({})
        self._store_answers = True

    @property
    def ring(self) -> Keyring:
        """The keys that are valid, as far as is known."""
        return self._ring

    @property
    def known(self) -> bool:
        """Whether the keys were ever read: before that a key that isn't found may well be valid."""
        return self._keys is not None

    def state(self) -> str:
        """For the readiness check."""
        if not self.known:
            return "the keys were never read"
        return "ok" if self._store_answers else "degraded: the store is away; keys are from disk"

    async def open(self) -> None:
        """Take the keys from disk, then from the store if it answers."""
        self._take_from_disk()
        await self.refresh()

    async def run(self) -> None:
        """Refresh for ever."""
        while True:
            await self._clock.sleep(REFRESH_S)
            await self.refresh()

    async def refresh(self) -> None:
        """Take the keys from the store; without an answer those that are known stay."""
        try:
            keys = sorted(await self._load(), key=lambda key: key.id)
        except Exception as error:  # whatever is wrong with the store, the keys that are known stay valid
            self._say(False, type(error).__name__)
            return
        self._say(True, "")
        if keys != self._keys:
            self._take(keys)
            self._save(keys)

    def _say(self, answers: bool, reason: str) -> None:
        if answers != self._store_answers:
            self._store_answers = answers
            event = "key_store_back" if answers else "key_store_away"
            _log.warning(event, extra=fields(reason=reason, keys=len(self._ring)))

    def _take(self, keys: list[KeyRecord]) -> None:
        self._keys = keys
        self._ring = Keyring({key.digest: key for key in keys})

    def _take_from_disk(self) -> None:
        try:
            self._take(_decoder.decode(self._path.read_bytes()))
        except FileNotFoundError:
            return
        except msgspec.DecodeError as error:
            _log.warning("key_file_damaged", extra=fields(reason=str(error)))

    def _save(self, keys: list[KeyRecord]) -> None:
        """Digests only, and for this user's eyes only; a reader sees the old file or the new one whole."""
        new = self._path.with_suffix(".new")
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(keys))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            _log.warning("key_file_not_written", extra=fields(reason=error.strerror))
