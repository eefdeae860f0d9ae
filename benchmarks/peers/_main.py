"""``python _main.py PEER THREADS TRAIN TEST FOLDER K``: writes the peer's answers into the folder.

An answer is a line: the ``K`` best labels of a test text with their scores, best first.
"""

import importlib
import json
import os
import sys
from pathlib import Path


def main():
    name, threads, train, test, folder, k = sys.argv[1:]
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = threads
    peer = importlib.import_module(name)
    folder = Path(folder)
    texts, labels = read(train)
    answers = peer.answer(texts, labels, read(test)[0], int(threads), folder, int(k))
    lines = "".join(f"{json.dumps(answer)}\n" for answer in answers)
    (folder / "answers.jsonl").write_text(lines)


def read(path):
    with open(path, encoding="utf-8") as stream:
        examples = [json.loads(line) for line in stream]
    return [example["text"] for example in examples], [example["labels"] for example in examples]


if __name__ == "__main__":
    main()
