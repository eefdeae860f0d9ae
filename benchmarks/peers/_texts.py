"""What the peers share: TF-IDF by scikit-learn, labels by number, and the best of a matrix."""

import json
import os
import re
import time

# Characters of scripts that put no blanks between words: kana and Han.
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff]")


def tfidf(train, test, characters=False):
    """TF-IDF of words and pairs of words, rows of length 1: (n, terms) CSR float32, twice.

    With ``characters`` also of two to five characters within words, as a union. Texts without
    blanks between words are cut into one to three characters. ``TFIDF`` in the environment, JSON,
    are other arguments of the vectoriser; ``longest`` are the most words together.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    given = json.loads(os.environ.get("TFIDF", "{}"))
    words = (1, given.pop("longest", 2))
    common = {"sublinear_tf": True, "dtype": "float32", **given}
    if is_unspaced(train):
        vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), **common)
    else:
        vectorizer = TfidfVectorizer(ngram_range=words, **common)
        if characters:
            within = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **common)
            vectorizer = make_union(vectorizer, within)
    return vectorizer.fit_transform(train).tocsr(), vectorizer.transform(test).tocsr()


def trained(folder, save=None):
    """Notes for the leaderboard that training has ended, and saves the model to see its size."""
    if "LEADERBOARD" in os.environ:
        (folder / "trained.json").write_text(json.dumps(time.process_time()))
        if save:
            save(str(folder / "model"))


def is_unspaced(texts):
    """Whether a third of the characters of the first texts are Han or kana."""
    sample = "".join(texts[:200])
    return 3 * len(_UNSPACED.findall(sample)) > len(sample)


def numbered(lists):
    """Names of the labels in order, and the label ids of each example."""
    names = sorted({name for labels in lists for name in labels})
    ids = {name: number for number, name in enumerate(names)}
    return names, [[ids[name] for name in labels] for labels in lists]


def label_matrix(ids, num_labels):
    """CSR (n, num_labels) float32 of ones."""
    import numpy as np
    import scipy.sparse

    bounds = np.cumsum([0, *map(len, ids)])
    columns = np.array([number for row in ids for number in row], np.int32)
    shape = (len(ids), num_labels)
    return scipy.sparse.csr_matrix((np.ones(len(columns), np.float32), columns, bounds), shape)


def best_of_rows(scores, names, k):
    """Names and scores of the ``k`` best labels of each row of a CSR or dense matrix, best first.

    A vector holds how much the second of two labels is ahead of the first.
    """
    import numpy as np

    if isinstance(scores, np.ndarray):
        if scores.ndim == 1:
            scores = np.stack([-scores, scores], 1)
        best = np.argsort(-scores, axis=1)[:, :k]
        return [
            [(names[place], float(row[place])) for place in places]
            for row, places in zip(scores, best, strict=True)
        ]
    answers = []
    for row in range(scores.shape[0]):
        start, stop = scores.indptr[row : row + 2]
        order = np.argsort(-scores.data[start:stop], kind="stable")[:k]
        pairs = zip(scores.indices[start:stop][order], scores.data[start:stop][order], strict=True)
        answers.append([(names[place], float(score)) for place, score in pairs])
    return answers
