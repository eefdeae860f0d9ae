"""fastText's supervised mode as in its tutorial on this kind of data; ``pip install fasttext``.

Words and pairs of words, 25 epochs at 0.5, 50 dimensions, 200,000 buckets; one loss per label where
a text has several labels, else softmax.
"""

import re


def answer(train, labels, test, threads, folder):
    """The five best labels of each text of ``test``, best first."""
    import fasttext
    from _texts import numbered

    names, ids = numbered(labels)
    path = folder / "train.txt"
    with open(path, "w") as stream:
        for text, numbers in zip(train, ids, strict=True):
            marks = " ".join(f"__label__{number}" for number in numbers)
            stream.write(f"{marks} {_words(text)}\n")
    several = any(len(numbers) > 1 for numbers in ids)
    model = fasttext.train_supervised(
        str(path),
        lr=0.5,
        epoch=25,
        wordNgrams=2,
        dim=50,
        bucket=200_000,
        loss="ova" if several else "softmax",
        thread=threads,
        verbose=0,
    )
    found, _ = model.f.multilinePredict([f"{_words(text)}\n" for text in test], 5, 0.0, "strict")
    return [[names[int(mark.removeprefix("__label__"))] for mark in marks] for marks in found]


def _words(text):
    """Lower case, punctuation apart, as the tutorial prepares its texts."""
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))
