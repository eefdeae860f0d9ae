"""A probabilistic label tree of napkinXC over scikit-learn's TF-IDF; ``pip install napkinxc``."""


def answer(train, labels, test, threads, folder):
    """The five best labels of each text of ``test``, best first."""
    from _texts import numbered, tfidf
    from napkinxc.models import PLT

    features, queries = tfidf(train, test)
    names, ids = numbered(labels)
    model = PLT(str(folder / "model"), threads=threads)
    model.fit(features, ids)
    return [[names[label] for label in row] for row in model.predict(queries, top_k=5)]
