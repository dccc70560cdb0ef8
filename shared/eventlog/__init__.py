"""The event log: where touchpoints are kept between ingest and stager.

`port` is what the services know; `kafka` and `local` are the two logs behind it, held to the same
promises by one contract suite. `choose` picks one from the settings.
"""
