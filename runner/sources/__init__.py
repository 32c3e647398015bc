"""Sources of records, one file per `source` option, and the readers that they share."""
