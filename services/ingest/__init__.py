"""Ingest answers HTTP and appends to the event log. It needs nothing else to be up."""
