"""The worker, which is the child process that runs one plugin and consumes and publishes messages."""
