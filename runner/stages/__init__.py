"""Stages, the commands of the program: one module each, with its settings (`XStage`) and the class that runs it."""
