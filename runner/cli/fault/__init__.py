"""The commands that break things on purpose, so that one can see what becomes of it."""
