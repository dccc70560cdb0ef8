"""Benchmarks: Rejse beside named baselines, measured in one run (`make bench`)."""
