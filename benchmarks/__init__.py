"""Run by hand from the root, ``python -m benchmarks.latency`` and so on; they print, they assert nothing.

Each ratio compares two figures of the same run on the same machine; the raw figures beside it are that machine's alone.
"""
