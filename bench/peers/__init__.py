"""Peers: scripts that do the product's work with other libraries, as their documentation recommends."""
