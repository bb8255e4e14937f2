"""Child processes, their output and notifications, and the descendants that outlive them."""
