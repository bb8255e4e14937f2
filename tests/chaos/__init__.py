"""A run under faults: orders go in while processes, connections, the broker and disk fail; then they are counted."""
