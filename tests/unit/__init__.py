"""Pure logic, alone: no adapter, no I/O."""
