"""Other Debian releases in folders: their RabbitMQ under the suite, their Python, and a newcomer's first minute."""
