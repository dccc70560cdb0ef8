"""Journeys: what a definition says (`language`, `definition`, `rules`), and the stage it gives (`fold`).

`catalog` loads the built-in definitions and those of a folder. All but `catalog` is pure.
"""
