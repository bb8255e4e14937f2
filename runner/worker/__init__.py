"""A worker: the child process that runs one plugin and moves its messages."""
