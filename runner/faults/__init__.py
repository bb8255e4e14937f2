"""Fault injection, with its commands and the part that runs in workers."""
