"""TF-IDF and ``LinearSVC`` of scikit-learn, one against the rest; ``pip install scikit-learn``."""


def answer(train, labels, test, threads, folder, k):
    """The ``k`` best labels of each text of ``test`` with their scores, best first."""
    return answer_with(train, labels, test, threads, folder, k, characters=False)


def answer_with(train, labels, test, threads, folder, k, characters):
    """As ``answer``, with the characters within words as well."""
    from _texts import best_of_rows, label_matrix, numbered, tfidf, trained
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import LinearSVC

    features, queries = tfidf(train, test, characters)
    names, ids = numbered(labels)
    if all(len(numbers) == 1 for numbers in ids):
        model = LinearSVC().fit(features, [numbers[0] for numbers in ids])
        trained(folder)
        scores = model.decision_function(queries)
    else:
        model = OneVsRestClassifier(LinearSVC(), n_jobs=threads)
        model.fit(features, label_matrix(ids, len(names)))
        trained(folder)
        scores = model.decision_function(queries)
    return best_of_rows(scores, names, k)
