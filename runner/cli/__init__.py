"""The command line, which is the only part of the program that prints for people."""
