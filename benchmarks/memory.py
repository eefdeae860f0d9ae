"""What a dry run says of memory, against what is seen: preparation, training, evaluation, export.

    python benchmarks/memory.py
    python benchmarks/memory.py --cases mach-small xr_linear-large --folder /tmp/memory

Each case is a rehearsal: a config of the repository on a stand-in for its data, drawn with the
sizes of a share of the published set, so that no file is needed. `tfxc train --dry-run` says what
each phase will need; then each phase runs as a process of its own, and its peak is what the system
reports of it (largest resident size). Run it on a machine with memory to spare: where there is
little, the system takes pages of programs back, and processes look smaller than they are.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PHASES = ("preparation", "training", "evaluation", "export")


class Case(NamedTuple):
    """A rehearsal.

    Attributes:
        config: its name in ``configs``.
        share: of the published set.
        settings: ``key=value`` each, short trainings above all.
    """

    config: str
    share: float
    settings: tuple[str, ...] = ("training.epochs=1",)


_SHORT = "training.epochs=1"
_ONE_BY_ONE = (_SHORT, "encoder.hidden=[512]", "training.batch_size=1000")
CASES = {
    "mach-small": Case("mach_eurlex57k", 0.05),
    "mach-large": Case("mach_amazon670k", 0.02, (*_ONE_BY_ONE, "head.num_repetitions=2",
                                                 "recipe.parallel=1")),
    "mach-published": Case("mach_amazon670k", 0.02, (_SHORT, "head.num_repetitions=2",
                                                     "recipe.parallel=1")),
    "dense-small": Case("dense_eurlex57k", 0.05),
    "dense-large": Case("dense_amazon670k", 0.02, (_SHORT, "training.batch_size=256",
                                                   "encoder.hidden=[512]")),
    "fused-small": Case("dense_fused_amazon670k", 0.02),
    "fused-large": Case("dense_fused_amazon670k", 0.2, ("training.epochs=0.2",)),
    "fused-bfloat16": Case("dense_fused_amazon670k", 0.2, ("training.epochs=0.2",
                                                           "head.weights=bfloat16")),
    "mhc-small": Case("mhc_eurlex57k", 0.2),
    "mhc-large": Case("mhc_amazon670k", 0.05, (_SHORT, "head.heads=[419, 80]", "techniques=[]")),
    "sampled-small": Case("scent_glyphs", 0.2),
    "sampled-large": Case("scent_glint360k", 0.03, (_SHORT, "evaluation.train_slice=1024")),
    "minilm-small": Case("minilm_clinc150", 0.1),
    "minilm-large": Case("minilm_clinc150", 1.0, ("training.epochs=0.1",)),
    "xr_linear-small": Case("xr_linear_eurlex57k", 0.1, ()),
    "xr_linear-medium": Case("xr_linear_amazon670k", 0.05, ()),
    "xr_linear-large": Case("xr_linear_amazon670k", 0.1, ()),
    "xr_linear-published": Case("xr_linear_amazon670k", 1.0, ()),
}  # fmt: skip


def main():
    """Prints a table: what was said, what was seen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--folder", help="where data and runs go and stay (default: nowhere)")
    parser.add_argument("--prepare", help=argparse.SUPPRESS)
    parser.add_argument("--share", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--set", action="append", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        # Makes the stand-ins of a rehearsal and prepares them, in this process.
        from tfxc.data.reading.inspection.completion import load_config
        from tfxc.training.rehearsal.config import rehearsed

        config = load_config(options.prepare, options.set)
        rehearsal = rehearsed(config, options.share, options.folder)
        rehearsal.prepared(rehearsal.config.data, options.folder)
        return 0
    print(f"{'case':20}{'phase':14}{'said MB':>10}{'seen MB':>10}{'said/seen':>11}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.cases:
            for phase, said, seen in measured(CASES[name], Path(options.folder or scratch) / name):
                ratio = f"{said / seen:11.2f}" if said else f"{'-':>11}"
                shown = f"{said / 2**20:10,.0f}" if said else f"{'-':>10}"
                print(f"{name:20}{phase:14}{shown}{seen / 2**20:10,.0f}{ratio}", flush=True)
    return 0


def measured(case, folder):
    """(phase, bytes said or None, bytes seen) of a case, one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    run = folder / "run"
    data = folder / "data"
    settings = [word for setting in (*case.settings, f"run={run}") for word in ("--set", setting)]
    rehearsal = ["--config", case.config, "--rehearse", str(case.share), "--prepared", str(data)]
    train = [sys.executable, "-m", "tfxc", "train", *rehearsal, *settings]
    plan = subprocess.run([*train, "--dry-run"], text=True, check=True, env=environment(),
                          stdout=subprocess.PIPE, cwd=ROOT).stdout  # fmt: skip
    lines = re.findall(r"^\s+(\w+)\s+([\d,]+) MB", plan, re.MULTILINE)
    said = {name: int(size.replace(",", "")) * 2**20 for name, size in lines}
    said["training"] = said.get("total")
    split = "dev" if re.search(r"^  dev ", plan, re.MULTILINE) else "test"
    prepare = [sys.executable, __file__, "--prepare", case.config, "--share", str(case.share)]
    run = f"{run}-rehearsal"
    commands = {
        "preparation": [*prepare, "--folder", str(data), *settings],
        "training": [*train, "--fresh"],
        "evaluation": [sys.executable, "-m", "tfxc", "evaluate", "--run", run, "--split", split],
        "export": [sys.executable, "-m", "tfxc", "export", "--run", run],
    }
    log = folder / "log.txt"
    for phase, command in commands.items():
        yield phase, said.get(phase), peak(command, log)


def peak(command, log):
    """Largest resident size of a process, bytes; its output is appended to a file."""
    with open(log, "ab") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env=environment(), cwd=ROOT
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}, see {log}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def environment():
    """Variables of a process that runs this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}


if __name__ == "__main__":
    sys.exit(main())
