"""Configuration: composes and validates the settings, and builds the stage with its components."""
