"""The daemon: starts executions in processes of their own, supervises them and records their results."""
