"""fastText's supervised mode as in its tutorial on this kind of data; ``pip install fasttext``.

Words and pairs of words, 25 epochs at 0.5, 50 dimensions, 200,000 buckets; one loss per label where
a text has several labels, else softmax.
"""

import re


def answer(train, labels, test, threads, folder, k):
    """The ``k`` best labels of each text of ``test`` with their scores, best first."""
    from _texts import trained

    model = model_of(train, labels, threads, folder)
    trained(folder, model.save_model)
    return answer_of(model, labels, test, k)


def model_of(train, labels, threads, folder, **settings):
    """The model, with other settings than those above where some are given."""
    import fasttext
    from _texts import numbered

    ids = numbered(labels)[1]
    path = folder / "train.txt"
    with open(path, "w") as stream:
        for text, numbers in zip(train, ids, strict=True):
            marks = " ".join(f"__label__{number}" for number in numbers)
            stream.write(f"{marks} {_words(text)}\n")
    several = any(len(numbers) > 1 for numbers in ids)
    usual = {"lr": 0.5, "epoch": 25, "wordNgrams": 2, "dim": 50, "bucket": 200_000}
    settings = {**usual, "loss": "ova" if several else "softmax", **settings}
    return fasttext.train_supervised(str(path), thread=threads, verbose=0, **settings)


def answer_of(model, labels, test, k):
    """What ``answer`` returns, of a model that was trained on texts with these labels."""
    from _texts import numbered

    names = numbered(labels)[0]
    queries = [f"{_words(text)}\n" for text in test]
    found, scores = model.f.multilinePredict(queries, k, 0.0, "strict")
    numbers = ([int(mark.removeprefix("__label__")) for mark in marks] for marks in found)
    return [
        [(names[number], float(score)) for number, score in zip(*row, strict=True)]
        for row in zip(numbers, scores, strict=True)
    ]


def _words(text):
    """Lower case, punctuation and Chinese characters apart, as the tutorial prepares its texts."""
    return " ".join(re.findall(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+|[^\w\s]", text.lower()))
