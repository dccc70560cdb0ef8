"""Faults on purpose: everything around Rejse is broken, and what it promises is checked."""
