"""Load on ``tfxc serve``, and what the same run does in one process without HTTP.

    python benchmarks/serve_load.py RUN --data FILE [--clients 32] [--seconds 60] [--texts 64]
                                    [--rounds 5] [--requests 100000] [--savedmodel FOLDER]

Starts the server on a free port of 127.0.0.1, and clients in one other process, each of which sends
its next request when the last one is answered. Texts are of mixed length, from a few words to
pages. Prints

* requests of one text: errors, the median and the 99th percentile in milliseconds, next to those of
  the plain SavedModel in this process, one text at a time (with --savedmodel);
* requests of many texts and the run's predictor in this process, in batches of 256, by turns, so
  that other work on the machine slows both: texts per second, and their ratio in every round;
* memory of the server while --requests are answered.

Every part is bounded by --seconds or --requests; 0 leaves a part out. Clients and server share the
machine.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as tfxc serve, so that both search alike
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
BATCH = 256


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--data", required=True, metavar="FILE")
    parser.add_argument("--savedmodel", metavar="FOLDER")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100_000)
    options = parser.parse_args()
    texts = mixed_texts(options.data)
    process, port = start(options.run)
    try:
        if options.seconds:
            say(f"{options.clients} clients, {options.seconds:g} s, one text each request")
            report(load(port, options, texts, 1, options.seconds))
            by_turns(port, options, texts)
        if options.requests:
            say(f"memory over {options.requests:,} requests")
            memory(port, options, texts)
    finally:
        process.send_signal(signal.SIGTERM)
        say(f"server ended with {process.wait(60)}")
    if options.savedmodel:
        single(options.savedmodel, texts[:1000])
    return 0


def say(text):
    """Prints at once."""
    print(text, flush=True)


def mixed_texts(path, count=4096):
    """Texts of mixed length: single ones of a file, and up to 20 of them joined."""
    from tfxc.data.reading.formats import open_reader

    chunk = next(open_reader(path).chunks(count))
    draw = random.Random(0)
    known = [text for text in chunk.texts if text.strip()]
    lengths = draw.choices((1, 2, 5, 20), (60, 25, 10, 5), k=count)
    return [" ".join(draw.choices(known, k=length)) for length in lengths]


def start(run):
    """The server's process and port."""
    command = [sys.executable, "-m", "tfxc", "serve", f"run={run}", "--port", "0", "--drain", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    for line in process.stdout:
        if match := re.search(r"serving at http://127\.0\.0\.1:(\d+)/", line):
            return process, int(match[1])
    sys.exit("the server has not started")


def load(port, options, texts, size, seconds, requests=None):
    """What the clients have seen: latencies, errors, texts per second."""
    bodies = [
        json.dumps({"texts": texts[first : first + size]}).encode()
        for first in range(0, len(texts), size)
    ]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        before = gauge(port, "process_cpu_seconds_total")
        arguments = (port, bodies, options.clients, seconds, requests)
        latencies, errors, took = pool.apply(run_clients, arguments)
    answered = len(latencies) * size
    cost = (gauge(port, "process_cpu_seconds_total") - before) / answered
    return {"latencies": latencies, "errors": errors, "rate": answered / took, "cost": cost}


def gauge(port, name):
    """A number of the server's metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return float(re.search(rf"^{name} (\S+)", answer.read().decode(), re.MULTILINE)[1])


def run_clients(port, bodies, clients, seconds, requests):
    """Latencies, errors, and the seconds in all; runs in a process of its own."""
    latencies = []
    errors = []
    begun = time.perf_counter()
    end = begun + seconds
    share = None if requests is None else requests // clients

    async def run_all():
        await asyncio.gather(
            *(
                run_client(port, bodies[n:] + bodies[:n], end, share, latencies, errors)
                for n in range(clients)
            )
        )

    asyncio.run(run_all())
    return latencies, errors, time.perf_counter() - begun


async def run_client(port, bodies, end, requests, latencies, errors):
    """One connection: a request after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    done = 0
    while time.perf_counter() < end and (requests is None or done < requests):
        body = bodies[done % len(bodies)]
        head = (
            "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        begun = time.perf_counter()
        writer.write(head.encode() + body)
        header = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", header)[1])
        answer = await reader.readexactly(length)
        latencies.append(time.perf_counter() - begun)
        if not header.startswith(b"HTTP/1.1 200") or b'"predictions"' not in answer:
            errors.append(header[:40])
        done += 1
    writer.close()


def report(seen):
    """Prints and returns a measurement."""
    import numpy as np

    median, most = 1e3 * np.percentile(seen["latencies"], [50, 99])
    say(f"  {len(seen['latencies']):,} requests, {len(seen['errors'])} errors")
    say(f"  p50 {median:.1f} ms, p99 {most:.1f} ms, {seen['rate']:,.0f} texts/s")
    say(f"  {1e3 * seen['cost']:.3f} ms of the server's processor time a text")
    return seen


def memory(port, options, texts):
    """Prints the server's resident memory while requests are answered."""
    parts = 4
    for part in range(parts + 1):
        size = gauge(port, "process_resident_memory_bytes") / 1e6
        say(f"  {part * options.requests // parts:>9,} requests: {size:,.1f} MB")
        if part < parts:
            load(port, options, texts, 1, 600, options.requests // parts)


def by_turns(port, options, texts):
    """Prints throughput of the server and of this process, round by round."""
    import numpy as np

    predict = in_process(options.run)
    seconds = options.seconds / options.rounds
    predict(texts, 1.0)  # warm-up, as the server has had
    say(f"by turns, {seconds:g} s each: {options.clients} clients with {options.texts} texts each "
        f"request; this process, batches of {BATCH}")  # fmt: skip
    ratios = []
    for number in range(options.rounds):
        turns = [
            lambda: load(port, options, texts, options.texts, seconds),
            lambda: predict(texts, seconds),
        ]
        order = (0, 1) if number % 2 == 0 else (1, 0)
        seen = {turn: turns[turn]() for turn in order}
        served = seen[0]
        here = seen[1]
        ratios.append((served["rate"] / here["rate"], here["cost"] / served["cost"]))
        say(f"  server {served['rate']:,.0f} texts/s, {1e3 * served['cost']:.3f} ms of processor "
            f"time a text, {len(served['errors'])} errors; process {here['rate']:,.0f} and "
            f"{1e3 * here['cost']:.3f}: {ratios[-1][0]:.2f} by the clock, {ratios[-1][1]:.2f} by "
            "processor time")  # fmt: skip
    clock, processor = np.median(ratios, axis=0)
    say(f"  median: {clock:.2f} by the clock, {processor:.2f} by processor time")


def in_process(run):
    """A function that predicts here for some seconds: (texts, seconds) -> rate and cost."""
    from tfxc.data.examples.chunk import Chunk
    from tfxc.inference.predictors import RunPredictor
    from tfxc.runs.loaded import load_run

    predict = RunPredictor(load_run(run), probabilities=None)

    def predicted(texts, seconds):
        begun = time.perf_counter()
        cpu = time.process_time()
        done = 0
        while time.perf_counter() < begun + seconds:
            first = done % len(texts)
            batch = texts[first : first + BATCH]
            predict(Chunk([[] for _ in batch], texts=batch))
            done += len(batch)
        took = time.perf_counter() - begun
        spent = time.process_time() - cpu
        return {"rate": done / took, "cost": spent / done}

    return predicted


def single(folder, texts):
    """Prints how long a SavedModel takes for one text at a time."""
    import numpy as np
    import tensorflow as tf

    model = tf.saved_model.load(folder)
    call = model.signatures["serving_default"]
    times = []
    for number, text in enumerate(texts[:50] + texts):
        begun = time.perf_counter()
        call(text=tf.constant([text]))["labels"].numpy()
        if number >= 50:
            times.append(time.perf_counter() - begun)
    median, most = 1e3 * np.percentile(times, [50, 99])
    say(f"plain SavedModel, one text at a time: p50 {median:.2f} ms, p99 {most:.2f} ms")


if __name__ == "__main__":
    sys.exit(main())
