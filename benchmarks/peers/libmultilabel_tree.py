"""The tree of LibMultiLabel over scikit-learn's TF-IDF, with its defaults.

``pip install libmultilabel==0.10.0``. It answers with a dense row for each query.
"""

BATCH = 256


def answer(train, labels, test, threads, folder, k):
    """The ``k`` best labels of each text of ``test`` with their scores, best first."""
    import libmultilabel.linear as linear
    import numpy as np
    import scipy.sparse
    from _texts import label_matrix, numbered, tfidf, trained

    features, queries = tfidf(train, test)
    names, ids = numbered(labels)
    truth = label_matrix(ids, len(names)).astype(np.float64)
    model = linear.train_tree(truth, features.astype(np.float64), f"-m {threads}")
    trained(folder, lambda path: scipy.sparse.save_npz(path + ".npz", model.flat_model.weights))
    answers = []
    for first in range(0, queries.shape[0], BATCH):
        scores = model.predict_values(queries[first : first + BATCH].astype(np.float64))
        best = np.argsort(-scores, axis=1)[:, :k]
        values = np.take_along_axis(scores, best, 1)
        answers += [
            list(zip([names[label] for label in row], own.tolist(), strict=True))
            for row, own in zip(best.tolist(), values, strict=True)
        ]
    return answers
