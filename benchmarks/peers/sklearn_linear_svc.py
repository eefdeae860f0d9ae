"""TF-IDF and ``LinearSVC`` of scikit-learn, one against the rest; ``pip install scikit-learn``."""


def answer(train, labels, test, threads, folder):
    """The five best labels of each text of ``test``, best first."""
    from _texts import best_of_rows, label_matrix, numbered, tfidf
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import LinearSVC

    features, queries = tfidf(train, test)
    names, ids = numbered(labels)
    if all(len(numbers) == 1 for numbers in ids):
        model = LinearSVC().fit(features, [numbers[0] for numbers in ids])
        scores = model.decision_function(queries)
    else:
        model = OneVsRestClassifier(LinearSVC(), n_jobs=threads)
        model.fit(features, label_matrix(ids, len(names)))
        scores = model.decision_function(queries)
    return best_of_rows(scores, names)
