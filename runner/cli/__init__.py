"""The command-line interface, which is the only part of the program that prints text for people."""
