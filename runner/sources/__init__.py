"""Sources of records, one module per value of `source`, and the readers that they share."""
