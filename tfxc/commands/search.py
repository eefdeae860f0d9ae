"""Train a config with many settings and list their dev metrics.

    tfxc search --config textcnn_clinc150 --runs runs/search \
        --try encoder.dropout=0.2,0.5 --try training.optimizer.learning_rate=0.001,0.003
    tfxc search --config textcnn_clinc150 --runs runs/search --random 20 \
        --try encoder.dropout=0.1..0.6 --try training.optimizer.learning_rate=log:1e-4..1e-2

Values are separated by commas; values that contain commas are given as one JSON list:
--try 'head.heads=[[41,40],[6,271]]'. Without --random every combination is trained; with it, that
many random ones, also from ranges. Each is an ordinary run, in its own folder below --runs. The
same command resumes after a stop and trains nothing twice; a setting that fails is reported and
skipped.
"""

import argparse
import hashlib
import itertools
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfxc.core import cli
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.core.storage.files import write_json
from tfxc.core.storage.reading import read_json

_STOPPED = 128  # exit codes from here on say that a signal stopped training


class Values(NamedTuple):
    """What a key may be.

    Attributes:
        key: a config key, e.g. ``encoder.dropout``.
        choices: list of values, or None for a range.
        low, high: ends of the range.
        logarithmic: whether the logarithm is drawn evenly.
        integers: whether the values are integers.
    """

    key: str
    choices: list[Any] | None
    low: float = 0.0
    high: float = 0.0
    logarithmic: bool = False
    integers: bool = False

    def draw(self, generator: random.Random) -> Any:
        """A value, from ``random.Random``."""
        if self.choices is not None:
            return generator.choice(self.choices)
        if self.logarithmic:
            value = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = generator.uniform(self.low, self.high)
        return round(value) if self.integers else float(f"{value:.4g}")


def main(argv: Sequence[str] | None = None) -> int:
    """Trains all settings and prints the table."""
    options = _parser().parse_args(argv)
    from tfxc.data.inspection.completion import config_of

    config = config_of(options)  # refuses a wrong config before the first training
    trials = settings(options.tried, options.random, options.seed)
    for changes in trials:
        changed = [*options.set, *_texts(changes)]
        config_of(argparse.Namespace(config=options.config, set=changed))
    print(f"{len(trials)} settings of {options.config}", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    for number, changes in enumerate(trials, 1):
        run = Path(options.runs) / f"{config.data.name}-{_name(changes)}"
        shown = ", ".join(_texts(changes))
        print(f"[{number} of {len(trials)}] {shown}", file=sys.stderr, flush=True)
        code = 0 if _finished(run) else train(options, changes, run)
        if code > _STOPPED:
            print(f"stopped; run the same command again to resume\n{table(rows, options)}")
            return code
        rows.append({"run": str(run), "changes": changes, "result": _result(run, options.metric)})
        rows.sort(key=lambda row: _rank(row, options.smaller))
        write_json(Path(options.runs) / "search.json", rows, indent=1)
    print(table(rows, options))
    return 0 if any(row["result"] is not None for row in rows) else 1


def settings(tried: Sequence[Values], count: int | None, seed: int) -> list[dict[str, Any]]:
    """The changes of every training, ``[{key: value}]``; none twice.

    Args:
        tried: list of ``Values``.
        count: number to draw, or None for all combinations.
        seed: of the drawing.

    Raises:
        ConfigError: a range without a number to draw, or a key given twice.
    """
    keys = [values.key for values in tried]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(
                f"distinct keys expected, found {key!r} twice",
                where="--try",
                fix="name each key once",
            )
    if count is None:
        for values in tried:
            if values.choices is None:
                raise ConfigError(
                    f"a list of values expected, found a range for {values.key!r}",
                    where="--try",
                    fix="add --random NUMBER, or list values",
                )
        combinations = itertools.product(*(values.choices or [] for values in tried))
        return _distinct(dict(zip(keys, each, strict=True)) for each in combinations)
    generator = random.Random(seed)
    drawn = ({v.key: v.draw(generator) for v in tried} for _ in range(20 * count))
    return _distinct(drawn)[:count]


def train(options: argparse.Namespace, changes: Mapping[str, Any], run: Path) -> int:
    """Trains one setting by the ordinary command; its exit code."""
    from tfxc.training.interrupts import stop_with_parent

    command = [sys.executable, "-m", "tfxc.train", "--config", options.config]
    command += ["--prepared", options.prepared]
    for change in [*options.set, *_texts(changes), f"run={run}"]:
        command += ["--set", change]
    # The table alone goes to standard output.
    process = subprocess.Popen(command, stdout=2, **stop_with_parent(os.environ))
    while True:
        try:
            code = process.wait()
            break
        except KeyboardInterrupt:  # training has received it too, and saves
            continue
    return 128 - code if code < 0 else code


def table(rows: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> str:
    """The settings as text, the best first."""
    if not rows:
        return "nothing is trained yet"
    keys = list(rows[0]["changes"])
    head = [options.metric, *keys]
    body = [[_shown(row["result"]), *(_text(row["changes"][k]) for k in keys)] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in [head, *body]
    ]
    best = rows[0]
    if best["result"] is not None:
        lines.append(f"best: {best['run']}")
    return "\n".join(lines)


def values_of(text: str) -> Values:
    """``Values`` of the text after ``--try``."""
    key, sign, given = text.partition("=")
    if not (key and sign and given):
        raise argparse.ArgumentTypeError(f"KEY=VALUES expected, found {text!r}")
    if ".." in given:
        return _range(key, given)
    try:
        listed = json.loads(given)
    except json.JSONDecodeError:
        listed = None
    if not isinstance(listed, list):
        listed = [_value(part) for part in given.split(",")]
    if not listed:
        raise argparse.ArgumentTypeError(f"{key}: values expected, found none")
    return Values(key, listed)


def _range(key, given):
    logarithmic = given.startswith("log:")
    low, _, high = given.removeprefix("log:").partition("..")
    try:
        ends = [json.loads(low), json.loads(high)]
        integers = all(isinstance(end, int) for end in ends)
        low, high = map(float, ends)
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"{key}: LOW..HIGH expected, found {given!r}") from None
    if not low < high or (logarithmic and low <= 0):
        least = "0 < LOW" if logarithmic else "LOW"
        raise argparse.ArgumentTypeError(f"{key}: {least} < HIGH expected, found {given!r}")
    return Values(key, None, low, high, logarithmic, integers)


def _value(text):
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _distinct(trials):
    return list({json_text(trial, sort_keys=True): trial for trial in trials}.values())


def _name(changes):
    """A folder name that only depends on the changes."""
    return hashlib.sha256(json_text(changes, sort_keys=True).encode()).hexdigest()[:10]


def _texts(changes):
    return [f"{key}={_text(value)}" for key, value in changes.items()]


def _text(value):
    return value if isinstance(value, str) else json_text(value)


def _finished(run):
    return (run / "summary.json").is_file()


def _result(run, metric):
    """Dev value of a run at its best step, None for one that failed.

    Raises:
        ConfigError: the run has no such metric.
    """
    if not _finished(run):
        return None
    summary = read_json(run / "summary.json")
    if summary.get("best_metric") == metric:
        return summary["best"]
    if metric not in summary.get("dev", {}):
        known = ", ".join(summary.get("dev", {}))
        fix = f"choose one of: {known}" if known else "add a dev split to the config"
        raise ConfigError(f"no metric {metric!r} on dev", where="--metric", fix=fix)
    return summary["dev"][metric]


def _rank(row, smaller):
    if row["result"] is None:
        return math.inf
    return row["result"] if smaller else -row["result"]


def _shown(result):
    return "failed" if result is None else f"{result:.4f}"


def _parser():
    options = cli.parser("search", __doc__)
    cli.add_config_options(options)
    options.add_argument(
        "--try",
        dest="tried",
        action="append",
        required=True,
        type=values_of,
        metavar="KEY=VALUES",
        help="config key and its values or range (may be given several times)",
    )
    options.add_argument(
        "--random",
        type=cli.positive,
        metavar="N",
        help="try N random settings (default: every combination)",
    )
    options.add_argument(
        "--seed", type=cli.seed, default=0, help="seed of the random settings (default: 0)"
    )
    options.add_argument(
        "--metric", default="P@1", help="dev metric to sort by (default: %(default)s)"
    )
    options.add_argument(
        "--smaller", action="store_true", help="treat smaller values of the metric as better"
    )
    options.add_argument(
        "--runs", default="runs/search", help="folder of the runs (default: %(default)s)"
    )
    return options
