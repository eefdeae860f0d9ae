"""Three Parabel trees of omikuji over scikit-learn's TF-IDF; ``pip install omikuji==0.5.2``.

From Python it predicts one example at a time, and it has no seed.
"""


def answer(train, labels, test, threads, folder, k):
    """The ``k`` best labels of each text of ``test`` with their scores, best first."""
    import omikuji
    from _texts import numbered, tfidf, trained

    features, queries = tfidf(train, test)
    names, ids = numbered(labels)
    path = folder / "train.txt"
    with open(path, "w") as stream:  # the only way in: the format of the XC repository
        stream.write(f"{len(ids)} {features.shape[1]} {len(names)}\n")
        for row, numbers in enumerate(ids):
            pairs = " ".join(f"{place}:{value:.6g}" for place, value in _pairs(features, row))
            stream.write(f"{','.join(map(str, numbers))} {pairs or '0:0'}\n")
    model = omikuji.Model.train_on_data(str(path), n_threads=threads)
    trained(folder, model.save)
    model.init_prediction_thread_pool(threads)
    return [
        [(names[label], score) for label, score in model.predict(_pairs(queries, row), top_k=k)]
        for row in range(queries.shape[0])
    ]


def _pairs(matrix, row):
    start, stop = matrix.indptr[row : row + 2]
    places = matrix.indices[start:stop].tolist()
    return list(zip(places, matrix.data[start:stop].tolist(), strict=True))
