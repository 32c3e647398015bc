"""Configuration: from the command line and conf/ to a stage that is ready to run."""
