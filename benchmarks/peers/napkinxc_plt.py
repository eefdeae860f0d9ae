"""A probabilistic label tree of napkinXC over scikit-learn's TF-IDF; ``pip install napkinxc``."""


def answer(train, labels, test, threads, folder, k):
    """The ``k`` best labels of each text of ``test`` with their scores, best first."""
    from _texts import numbered, tfidf, trained
    from napkinxc.models import PLT

    features, queries = tfidf(train, test)
    names, ids = numbered(labels)
    model = PLT(str(folder / "model"), threads=threads)
    model.fit(features, ids)
    trained(folder)
    return [
        [(names[label], score) for label, score in row]
        for row in model.predict_proba(queries, top_k=k)
    ]
