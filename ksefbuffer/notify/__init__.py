"""What to tell whom: events worth a person's knowledge, each at most once, sent to the configured addresses."""
