"""What the peers share: TF-IDF by scikit-learn, labels by number, and the best five of a matrix."""


def tfidf(train, test):
    """TF-IDF of words and pairs of words, rows of length 1: (n, terms) CSR float32, twice."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype="float32")
    return vectorizer.fit_transform(train), vectorizer.transform(test)


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


def best_of_rows(scores, names, k=5):
    """Names of the ``k`` best labels of each row of a CSR or dense score matrix, best first."""
    import numpy as np

    if isinstance(scores, np.ndarray):
        return [[names[place] for place in row] for row in np.argsort(-scores, axis=1)[:, :k]]
    answers = []
    for row in range(scores.shape[0]):
        start, stop = scores.indptr[row : row + 2]
        order = np.argsort(-scores.data[start:stop], kind="stable")[:k]
        answers.append([names[place] for place in scores.indices[start:stop][order]])
    return answers
