"""Results on disk: the directories of executions, and the documents in them."""
