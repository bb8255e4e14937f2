"""Everybody's lines: to a terminal, to files, and to who asks for the latest."""
