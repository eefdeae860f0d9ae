"""One process of ``tfxc serve`` beside FastAPI with scikit-learn and with ONNX Runtime, by turns.

    python benchmarks/serve_peers.py --linear RUN --network RUN --train TRAIN.jsonl \
        --data DEV.jsonl --peers-python PY

``--linear`` is a run of recipe ``xr_linear``; beside it stand TF-IDF and ``LinearSVC``, trained on
``--train``, behind FastAPI (``peers/serve_linear_svc.py``). ``--network`` is a run with an ONNX
export in ``RUN/onnx``; beside it stands that export in ONNX Runtime behind FastAPI
(``peers/serve_onnx.py``). All servers are started first. Then each is asked in turn by 1, 8 and 32
clients, which are in one other process, with one text of ``--data`` a request, five labels each.

Printed are, for each number of clients, medians over the rounds: requests per second, milliseconds
of processor time of the server per request (all its processes, from /proc: Linux only), the median
latency, and at the end the resident memory of each server. Clients and servers share the machine:
requests per second depend on what else it does, processor time hardly.
"""

import argparse
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from serve_load import run_clients

PEERS = Path(__file__).parent / "peers"
TICKS = os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--linear", metavar="RUN")
    parser.add_argument("--network", metavar="RUN")
    parser.add_argument("--train", metavar="FILE", help="JSON lines, what LinearSVC learns from")
    parser.add_argument("--data", required=True, metavar="FILE", help="JSON lines, the questions")
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    lines = Path(options.data).read_text("utf-8").splitlines()
    bodies = [json.dumps({"texts": [json.loads(line)["text"]]}).encode() for line in lines]
    servers = {}
    try:
        for name, command in commands(options).items():
            servers[name] = started(command)
        rows = {(name, clients): [] for clients in options.clients for name in servers}
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            for round_number in range(options.rounds + 1):  # the first warms up
                for (name, clients), row in rows.items():
                    process, port = servers[name]
                    seconds = options.seconds if round_number else 1
                    before = processor_seconds(process.pid)
                    arguments = (port, bodies, clients, seconds, None)
                    latencies, errors, took = pool.apply(run_clients, arguments)
                    if errors:
                        sys.exit(f"{name}: {len(errors)} errors, the first {errors[0]}")
                    spent = processor_seconds(process.pid) - before
                    count = len(latencies)
                    middle = statistics.median(latencies)
                    row.append((count / took, 1000 * spent / count, 1000 * middle))
        print(f"{'':36}{'clients':>8}{'per s':>8}{'CPU ms':>8}{'p50 ms':>8}")
        for (name, clients), row in rows.items():
            rate, cost, middle = (
                statistics.median(column) for column in zip(*row[1:], strict=True)
            )
            print(f"{name:36}{clients:8}{rate:8.0f}{cost:8.3f}{middle:8.2f}")
        for name, (process, _) in servers.items():
            print(f"{name}: {sum(map(megabytes, family(process.pid))):.0f} MB")
    finally:
        for process, _ in servers.values():
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    return 0


def commands(options):
    """Name -> function of a port that returns the command of a server."""
    found = {}

    def tfxc(run, *more):
        return lambda port: [
            *(sys.executable, "-m", "tfxc", "serve", f"run={run}", "--port", str(port)),
            *("--drain", "0", *more),
        ]

    def peer(program, *given):
        return lambda port: [options.peers_python, str(PEERS / program), str(port), *given]

    if options.linear:
        found["tfxc, linear"] = tfxc(options.linear)
        found["tfxc, linear, --processes 2"] = tfxc(options.linear, "--processes", "2")
        found["FastAPI, TF-IDF and LinearSVC"] = peer("serve_linear_svc.py", options.train)
    if options.network:
        found["tfxc, network"] = tfxc(options.network)
        onnx = str(Path(options.network) / "onnx")
        found["FastAPI, ONNX Runtime, same network"] = peer("serve_onnx.py", onnx)
    return found


def started(command):
    """A server's process and port, once it accepts connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(command(port), stdout=subprocess.DEVNULL)
    while process.poll() is None:
        with socket.socket() as question:
            if question.connect_ex(("127.0.0.1", port)) == 0:
                return process, port
        time.sleep(0.1)
    sys.exit(f"{' '.join(command(port))} has not started")


def family(pid):
    """A process and those that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family(int(child)))]


def processor_seconds(pid):
    """Of a process and those that it has started."""
    ticks = 0
    for member in family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def megabytes(pid):
    """Resident memory of a process that no other shares, plus its part of what they share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    return float("nan")


if __name__ == "__main__":
    sys.exit(main())
