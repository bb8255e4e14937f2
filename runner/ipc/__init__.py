"""The channels between a worker and its supervisor: a notification socket, listening sockets and shared memory."""
