"""The channels between a worker and its supervisor: a socket for notifications, listening sockets and memory."""
