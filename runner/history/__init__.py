"""Event history and order history: what audit recorded, read back."""
