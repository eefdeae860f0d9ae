"""XR-Linear of libpecos over scikit-learn's TF-IDF; ``pip install libpecos==1.2.8 "numpy<2"``.

16 splits, leaves of at most 100 labels, weights below 0.1 cut, beam 10. Its own vectoriser, which
leaves punctuation at the words, loses 8 points of P@1 on cooking.
"""


def answer(train, labels, test, threads, folder, k):
    """The ``k`` best labels of each text of ``test`` with their scores, best first."""
    return answer_with(train, labels, test, threads, folder, k, characters=False)


def answer_with(train, labels, test, threads, folder, k, characters, cost=1.0):
    """As ``answer``, with the characters within words as well, and then weights from 0.03 on."""
    from _texts import best_of_rows, label_matrix, numbered, tfidf, trained
    from pecos.xmc import Indexer, LabelEmbeddingFactory
    from pecos.xmc.xlinear import XLinearModel

    features, queries = tfidf(train, test, characters)
    features.sort_indices()
    queries.sort_indices()
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
    least = 0.03 if characters else 0.1
    settings = {"threshold": least, "Cp": cost, "Cn": cost}
    model = XLinearModel.train(features, targets, C=chain, threads=threads, **settings)
    trained(folder, model.save)
    scores = model.predict(queries, beam_size=max(10, k), only_topk=k, threads=threads)
    return best_of_rows(scores, names, k)
