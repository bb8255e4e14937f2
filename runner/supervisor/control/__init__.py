"""What a running supervisor can be asked and told, and what it looks at now and then."""
