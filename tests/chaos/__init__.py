"""A run with injected faults: clients post orders while processes, connections, the broker and the disk fail."""
