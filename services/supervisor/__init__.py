"""`rejse run`: everything on this machine under one process.

`app` is the sequence: claim the data folder, open the store, make the keys, start the services, keep them
running, end them in order. `folder`, `keyfile`, `ports`, `child`, `tether` and `logfile` are its parts.
"""
