"""What a worker shares with its supervisor: a socket for words, listening sockets, and memory."""
