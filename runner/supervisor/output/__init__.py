"""The log lines of the supervisor and its child processes, on a terminal, in files, and for clients."""
