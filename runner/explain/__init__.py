"""From a model and records to attributions: background → game → explainer → local φ → global attributions.

An explainer sees only a game: boolean masks in, values out. What a mask means for a table of features, how many
rows go to the model at a time and what a background row is, only `game.py` knows.
"""
