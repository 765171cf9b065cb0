"""The side of `cargo xtask bench` that runs in Python: steps as standard input asks, times to standard output."""

import json
import pathlib
import sys
import time

import torch


def serve(name, step, device="cpu"):
    """Answers `step N` with the seconds of N calls of `step`, and `quit` with this process's peak memory.

    On the CPU each step tells its seconds; a GPU is waited for after the last of them only, as in training, and they
    share what it took.
    """
    on_gpu = torch.device(device).type == "cuda"

    def steps(count):
        if not on_gpu:
            return [step() for _ in range(count)]
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        for _ in range(count):
            step()
        torch.cuda.synchronize(device)
        return [(time.perf_counter() - start) / count] if count else []

    print(json.dumps({"ready": name, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        command = line.split()
        if command == ["quit"]:
            break
        if len(command) != 2 or command[0] != "step":
            sys.exit(f"expected `step N` or `quit`, got {line!r}")
        print(json.dumps({"seconds": steps(int(command[1]))}), flush=True)
    peak = {"peak_rss_bytes": peak_rss_bytes()}
    if on_gpu:
        # What was taken from the GPU, as the driver sees it, without the libraries' own.
        peak["peak_device_bytes"] = torch.cuda.max_memory_reserved(device)
    print(json.dumps(peak), flush=True)


def peak_rss_bytes():
    """Of this process alone; `getrusage` would count what its parent held when it started it."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024
