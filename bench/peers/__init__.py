"""Peers: scripts that do with other libraries what ours does, each by its own documentation."""
