"""Journeys: what a definition says (`definition`), and the stage it gives a customer (`fold`).

`catalog` loads the built-in definitions and those of a folder. All but `catalog` is pure.
"""
