"""Results on disk: directories of executions, the documents in them, and how they are read."""
