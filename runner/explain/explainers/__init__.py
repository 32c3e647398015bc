"""The explainers: one file, one YAML option each."""
