"""The tests mirror the modules; expected results are files in `expected/`."""
