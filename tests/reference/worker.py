"""The side of `cargo xtask bench` that runs in Python: steps as standard input asks, times to standard output."""

import json
import pathlib
import sys

import torch


def serve(name, step):
    """Answers `step N` with the seconds of N calls of `step`, and `quit` with this process's peak memory."""
    print(json.dumps({"ready": name, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        command = line.split()
        if command == ["quit"]:
            break
        if len(command) != 2 or command[0] != "step":
            sys.exit(f"expected `step N` or `quit`, got {line!r}")
        print(json.dumps({"seconds": [step() for _ in range(int(command[1]))]}), flush=True)
    print(json.dumps({"peak_rss_bytes": peak_rss_bytes()}), flush=True)


def peak_rss_bytes():
    """Of this process alone; `getrusage` would count what its parent held when it started it."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024
