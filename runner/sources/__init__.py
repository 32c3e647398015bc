"""Where the records of a window come from, a file a kind of source; `source` judges what any of them finds."""
