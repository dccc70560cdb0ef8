"""`rejse import`: history out of a file, through ingest's public door.

`mapping` and `values` turn a row into a touchpoint and are pure; `rows` reads the file; `batches` fills
requests; `sender` sends them; `journal` remembers what was answered; `app` is the sequence.
"""
