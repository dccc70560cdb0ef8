"""The event log on local disk, in one SQLite file: the embedded log, and ingest's spool."""
