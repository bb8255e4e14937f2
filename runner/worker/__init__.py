"""The worker, a child process that runs one plugin and consumes and publishes messages."""
