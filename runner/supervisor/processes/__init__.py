"""Child processes with their output and notifications, and the descendants that outlive child processes."""
