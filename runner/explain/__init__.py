"""Explanation of a model: background, games, explainers, local and global attributions.

Most explainers see only a game: a function from boolean masks of players to values. `game.py` and `masking.py` turn
masks into rows for the model; `game_explainer.py` divides records into blocks for workers.
"""
