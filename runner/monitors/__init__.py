"""Monitors: the execution of a monitor over a window, and the analyses of its records."""
