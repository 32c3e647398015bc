"""A small real data set and a model of it, for the quickstart; README.md says where they come from."""
