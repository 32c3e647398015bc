"""From a model and records to attributions: background, game, explainer, local attributions, global attributions.

Most explainers see only a game: boolean masks of players in, values out. `game.py` and `masking.py` turn masks into
rows for the model; `blocks.py` divides records into blocks for workers.
"""
