"""XR-Linear of libpecos with its own TF-IDF; ``pip install libpecos==1.2.8 "numpy<2"``.

Words and pairs of words; 16 splits, leaves of at most 100 labels, weights below 0.1 cut, beam 10.
"""


def answer(train, labels, test, threads, folder):
    """The five best labels of each text of ``test``, best first."""
    import numpy as np
    from _texts import best_of_rows, label_matrix, numbered
    from pecos.utils.featurization.text.vectorizers import Tfidf
    from pecos.xmc import Indexer, LabelEmbeddingFactory
    from pecos.xmc.xlinear import XLinearModel

    settings = {"ngram_range": (1, 2), "sublinear_tf": True, "threads": threads}
    vectorizer = Tfidf.train(train, settings)
    features = vectorizer.predict(train, threads=threads)
    features.sort_indices()
    names, ids = numbered(labels)
    targets = label_matrix(ids, len(names))
    vectors = LabelEmbeddingFactory.create(targets, features, method="pifa")
    chain = Indexer.gen(
        vectors,
        indexer_type="hierarchicalkmeans",
        nr_splits=16,
        max_leaf_size=100,
        threads=threads,
    )
    model = XLinearModel.train(features, targets, C=chain, threshold=0.1, threads=threads)
    queries = vectorizer.predict(test, threads=threads).astype(np.float32)
    queries.sort_indices()
    scores = model.predict(queries, beam_size=10, only_topk=5, threads=threads)
    return best_of_rows(scores, names)
