"""The HTTP API of CONTRACT §6."""
