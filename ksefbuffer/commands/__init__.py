"""The commands of CONTRACT §2, by what they are about. ``cli`` puts them together."""
