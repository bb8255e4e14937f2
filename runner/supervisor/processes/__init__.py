"""The supervisor's child processes, their output and notifications, and orphaned descendants."""
