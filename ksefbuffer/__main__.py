"""``python -m ksefbuffer``: as the command."""

from __future__ import annotations

from ksefbuffer.cli import main

if __name__ == "__main__":
    main()
