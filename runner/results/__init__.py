"""Result directories of executions and baselinings, and the documents in them."""
