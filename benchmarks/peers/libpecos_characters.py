"""XR-Linear of libpecos with TF-IDF of words and, within them, of two to five characters."""


def answer(train, labels, test, threads, folder, k):
    """The ``k`` best labels of each text of ``test`` with their scores, best first."""
    from libpecos import answer_with

    return answer_with(train, labels, test, threads, folder, k, characters=True)
