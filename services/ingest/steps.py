"""Work in steps, between which others may have their turn: a generator that pauses now and then and returns
what the work came to. Whoever runs it decides whether to go on at once."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")

Steps = Generator[None, None, Result]

PIECE_BYTES = 128 * 1024
"""What is done over more bytes at memory speed may take long enough to be a step of its own."""
