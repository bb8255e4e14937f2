"""A worker: the child process that runs one plugin, and consumes and publishes its messages."""
