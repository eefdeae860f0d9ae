"""Rows per CPU second of preparing texts, beside scikit-learn's TF-IDF of the same texts.

    python benchmarks/preparation.py eurlex57k/train.jsonl.xz

Takes the first lines of a file of JSON lines. Preparation (texts to terms, vocabulary, TF-IDF,
labels, records, checksums), the same with terms cut in Python as where the extension is not built,
and scikit-learn's ``TfidfVectorizer`` on the parsed lines, labels left out, take turns, each in its
own process on one thread. Imports and a first round are not counted.
"""

import argparse
import itertools
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from _alternating import answer, duel

PROGRAMS = ("tfxc", "tfxc in Python", "scikit-learn")
LEAST = 3  # documents of a term


def preparation(path):
    from tfxc.core.config import DataSettings
    from tfxc.data.store.preparation import prepare

    features = {"name": "tfidf", "min_df": LEAST, "token_pattern": r"\b\w\w+\b"}
    settings = DataSettings(name="benchmark", train=str(path), text_features=features)
    return lambda: prepare(settings, path.with_suffix(".prepared"), jobs=1)


def vectoriser(path):
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    def step():
        with open(path, encoding="utf-8") as stream:
            texts = [json.loads(line)["text"] for line in stream]
        TfidfVectorizer(sublinear_tf=True, min_df=LEAST, dtype=np.float32).fit_transform(texts)

    return step


def work(program, path):
    if program == "scikit-learn":
        step = vectoriser(path)
    else:
        path = shutil.copy(path, path.with_name(program.replace(" ", "-") + ".jsonl"))
        step = preparation(Path(path))
        if program == "tfxc in Python":
            from tfxc.data.text import terms

            terms._terms = None
    answer(step, 1, time.process_time)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="JSON lines with a key text, perhaps compressed")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=PROGRAMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.data)
        return
    from tfxc.data.reading.parsing.lines import Lines

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "first.jsonl")
        lines = [text for _, text in itertools.islice(Lines(options.data).texts(), options.rows)]
        path.write_text("\n".join(lines), encoding="utf-8")
        commands = {
            program: [sys.executable, __file__, str(path), "--worker", program]
            for program in PROGRAMS
        }
        times = duel(commands, 1, options.rounds, dict.fromkeys(PROGRAMS, 1))
    print(f"{len(lines):,} rows, {options.rounds} rounds; rows per CPU second")
    for program, seconds in times.items():
        rates = sorted(len(lines) / second for second in seconds)
        print(f"{program:15} {rates[len(rates) // 2]:8,.0f}  ({rates[0]:,.0f} to {rates[-1]:,.0f})")


if __name__ == "__main__":
    main()
