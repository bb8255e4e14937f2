"""Frozen, typed models of topology.yaml and config.yaml, with the line number of each error."""
