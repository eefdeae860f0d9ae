"""FastAPI before scikit-learn: TF-IDF of words and pairs of words, ``LinearSVC``.

``python serve_linear_svc.py PORT TRAIN``; ``pip install fastapi uvicorn httptools scikit-learn``.
"""

import sys

from _main import read
from _serving import serve


def main():
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    texts, labels = read(sys.argv[2])
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32)
    model = make_pipeline(vectorizer, LinearSVC()).fit(texts, [row[0] for row in labels])
    names = model.classes_.tolist()

    def answer(queries, k):
        scores = model.decision_function(queries)
        best = np.argsort(-scores, axis=1)[:, :k]
        return names, best, np.take_along_axis(scores, best, axis=1)

    serve(answer, int(sys.argv[1]))


if __name__ == "__main__":
    main()
