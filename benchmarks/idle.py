"""What a buffer costs that has nothing to do: processor time, and calls to KSeF.

Measured after one invoice has gone through and its session has been closed, as on a quiet night.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from benchmarks import stage
from benchmarks.latency import to_number
from ksefbuffer.sandbox import Sandbox


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=60)
    seconds = options.parse_args().seconds
    sandbox = Sandbox(latency_s=0.1)
    with stage.folder() as place, sandbox.serve() as server, stage.buffer(place, server.base_url, idle_s=2) as process:
        to_number(place, 1)
        until = time.monotonic() + 30
        while not sandbox.calls["closeSession"] and time.monotonic() < until:
            time.sleep(0.2)
        time.sleep(3)
        calls, cpu_s, began = sandbox.calls.total(), cpu(process.pid), time.monotonic()
        time.sleep(seconds)
        wall_s = time.monotonic() - began
        used_s, made = cpu(process.pid) - cpu_s, sandbox.calls.total() - calls
        resident = memory(process.pid)
    print(
        f"idle: {used_s / wall_s:.2%} of one processor; {used_s * 60 / wall_s:.2f} CPU seconds a minute, "
        f"{made * 60 / wall_s:.1f} KSeF calls a minute, {resident} MB resident, over {wall_s:.0f} s"
    )


def cpu(pid: int) -> float:
    """Processor seconds of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
