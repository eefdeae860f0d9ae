"""Whether every config that comes with tfxc works on a stand-in for its data: one batch, or a plan.

    python benchmarks/rehearse_configs.py --share 0.001 --output rehearsed.csv
    python benchmarks/rehearse_configs.py --match 'mhe_xmc/*' --match 'mach_*'

Runs `tfxc train --config CONFIG --dry-run --rehearse SHARE`, with small batches where there are
batches, a process each, and prints a line per config: its exit code, seconds of processor time,
peak memory, and the last line of its output. A config that is in the output file with exit code 0
is not run again. Recipe `xr_linear` has no batches; of it the sizes are computed. Ends with 1 if a
config failed.
"""

import argparse
import csv
import fnmatch
import os
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "configs"
COLUMNS = ("config", "code", "cpu_s", "peak_mb", "last_line")


def rehearsed(path, share, scratch):
    """A row of the output: what a dry run of the config needs and ends with."""
    command = [
        sys.executable, "-m", "tfxc.train", "--config", str(path), "--dry-run",
        "--rehearse", str(share), "--set", f"run={scratch}/run",
    ]  # fmt: skip
    if "xr_linear" not in path.stem:
        command += ["--set", "training.batch_size=8"]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=scratch)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        lines = [line.strip() for line in output if line.strip()]
    return {
        "config": str(path.relative_to(FOLDER)),
        "code": process.returncode,
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": usage.ru_maxrss // 1024,
        "last_line": lines[-1] if lines else "",
    }


def main():
    """Runs the configs, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--share", type=float, default=0.001, help="of the size of the data")
    parser.add_argument("--match", action="append", help="only these configs, such as 'mach_*'")
    parser.add_argument("--output", type=Path, default=Path("rehearsed.csv"))
    options = parser.parse_args()
    rows = {}
    if options.output.exists():
        with options.output.open(encoding="utf-8", newline="") as stream:
            rows = {row["config"]: row for row in csv.DictReader(stream)}
    for path in sorted(FOLDER.rglob("*.json")):
        name = str(path.relative_to(FOLDER))
        wanted = options.match is None or any(fnmatch.fnmatch(name, m) for m in options.match)
        if not wanted or (name in rows and rows[name]["code"] == "0"):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            rows[name] = rehearsed(path, options.share, scratch)
        print(*rows[name].values(), sep="  ", flush=True)
        with options.output.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows.values())
    failed = [name for name, row in rows.items() if str(row["code"]) != "0"]
    print(f"{len(rows)} configs, {len(failed)} failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
