"""Measurements against named baselines; run by `make bench`, never collected by pytest."""
