"""Seconds from an empty environment to a page that answers, on a table of texts, without a config.

    python benchmarks/five_minutes.py --data data/banking77/train.jsonl.xz

Builds the wheel, makes a virtual environment in a temporary folder, and runs there what a new user
does: `pip install`, `tfxc train my.csv`, `tfxc serve`; then asks the page's address for labels. The
clock starts when the wheel is there. pip's own cache and mirrors count as they are on the machine.
Ends with 1 if an answer is wrong or the time is over --limit.
"""

import argparse
import contextlib
import csv
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUESTIONS = {
    "I am still waiting on my card, when will it arrive?": "card_arrival",
    "How do I change my PIN?": "change_pin",
    "My top-up has failed, what happened?": "top_up_failed",
}
RUN = "runs/my"
# What the wheel is built from.
SOURCES = (
    "pyproject.toml", "setup.cfg", "setup.py", "MANIFEST.in", "README.md", "LICENSE",
    "configs", "examples", "tools", "tfxc",
)  # fmt: skip


def main():
    """Prints seconds per step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    data = Path(os.environ.get("TFXC_DATA", "data"), "banking77", "train.jsonl.xz")
    parser.add_argument("--data", default=data, type=Path, help="BANKING77 (default: %(default)s)")
    parser.add_argument("--limit", default=300.0, type=float, help="seconds (default: %(default)s)")
    parser.add_argument("--preset", help="of tfxc train (default: the usual one)")
    parser.add_argument("--wheel", type=Path, help="wheel to install (default: built now)")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tfxc-five-minutes-"))
    try:
        seconds = measured(options, folder)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    for step, taken in seconds.items():
        print(f"{step:36}{taken:8.1f} s")
    total = sum(seconds.values())
    print(f"{'in all':36}{total:8.1f} s, limit {options.limit:g} s; lines of config: 0")
    return int(total > options.limit)


def measured(options, folder):
    """{step: seconds}."""
    examples = write_table(options.data, folder / "my.csv")
    print(f"{examples:,} examples in {folder / 'my.csv'}, {os.cpu_count()} processors", flush=True)
    wheel = options.wheel or built(folder)
    print(f"wheel: {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
    binaries = folder / "venv" / "bin"
    seconds = {}
    environment = {
        **{
            key: value
            for key, value in os.environ.items()
            if key not in ("PYTHONPATH", "TFXC_DATA")
        },
        "TFXC_CACHE": str(folder / "cache"),
    }  # as of a user who has never run it
    preset = ["--preset", options.preset] if options.preset else []
    steps = {
        "python -m venv": [sys.executable, "-m", "venv", "venv"],
        "pip install 'tfxc[serve]'": [
            binaries / "pip", "install", "--quiet", f"tfxc[serve] @ {wheel.as_uri()}"
        ],
        f"tfxc train {' '.join(['my.csv', *preset])}": [
            binaries / "tfxc", "train", "my.csv", "--run", RUN, *preset
        ],
    }  # fmt: skip
    for step, command in steps.items():
        start = time.monotonic()
        with open(folder / "log.txt", "ab") as log:
            code = subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log)
        if code.returncode:
            raise SystemExit(f"{step} has failed:\n{(folder / 'log.txt').read_text()[-3000:]}")
        seconds[step] = time.monotonic() - start
        print(f"{step}: {seconds[step]:.1f} s", flush=True)
    seconds["tfxc serve, until the page answers"] = served(folder, binaries, environment)
    return seconds


def write_table(source, path):
    """Writes the examples as a table, as BANKING77 is published; returns their number."""
    opened = lzma.open if source.suffix == ".xz" else open
    with opened(source, "rt", encoding="utf-8") as lines:
        examples = [json.loads(line) for line in lines]
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "category"])
        writer.writerows([example["text"], example["labels"][0]] for example in examples)
    return len(examples)


def built(folder):
    """The wheel of this source tree, built in a copy of it."""
    copy = folder / "source"
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("*.so", "__pycache__")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, copy]
    start = time.monotonic()
    subprocess.run(command, check=True)
    print(f"wheel built in {time.monotonic() - start:.1f} s (not counted)", flush=True)
    return next(folder.glob("tfxc-*.whl"))


def served(folder, binaries, environment):
    """Seconds until the page and its questions are answered."""
    start = time.monotonic()
    with (
        open(folder / "serve.txt", "w") as log,
        subprocess.Popen(
            [binaries / "tfxc", "serve", RUN, "--port", "0"],
            cwd=folder, env={**environment, "PYTHONUNBUFFERED": "1"}, stdout=log, stderr=log,
        ) as server,
    ):  # fmt: skip
        try:
            address = address_of(folder / "serve.txt", server)
            page = urllib.request.urlopen(f"{address}/", timeout=60).read().decode()
            if "<html" not in page:
                raise SystemExit(f"the server answers with no page: {page[:200]!r}")
            ask(address)
            return time.monotonic() - start
        finally:
            server.send_signal(signal.SIGTERM)


def address_of(log, server):
    """The address that the server prints, once it answers."""
    while server.poll() is None:
        words = log.read_text().split()
        for word in words:
            address = word.rstrip("/.,;")
            if word.startswith("http://127.0.0.1:"):
                with contextlib.suppress(urllib.error.URLError):
                    urllib.request.urlopen(f"{address}/health", timeout=10).read()
                    return address
        time.sleep(0.1)
    raise SystemExit(f"the server has ended:\n{log.read_text()}")


def ask(address):
    """Compares the first label of each question, asked as the page asks."""
    body = json.dumps({"texts": list(QUESTIONS), "k": 3}).encode()
    request = urllib.request.Request(
        f"{address}/predict", body, {"Content-Type": "application/json"}
    )
    answer = json.load(urllib.request.urlopen(request, timeout=60))
    for (text, label), labels in zip(QUESTIONS.items(), answer["predictions"], strict=True):
        print(f"  {text} -> {labels[0]['label']} ({labels[0]['score']:.2f})")
        if labels[0]["label"] != label:
            raise SystemExit(f"{text!r} got {labels[0]['label']} instead of {label}")


if __name__ == "__main__":
    sys.exit(main())
