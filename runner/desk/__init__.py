"""The dead-letter desk, pure: what is known of a parked message, which are meant, and what is sent back of one."""
