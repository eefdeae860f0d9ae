"""The 20 nearest training texts by an SVD of TF-IDF, whose labels vote with the similarity; faiss.

faiss searches only dense vectors: the SVD of scikit-learn makes at most 512 values of each row.
"""

WIDTH = 512
NEIGHBOURS = 20


def answer(train, labels, test, threads, folder, k):
    """The ``k`` best labels of each text of ``test`` with their scores, best first."""
    import faiss
    import numpy as np
    import scipy.sparse as sp
    from _texts import best_of_rows, label_matrix, numbered, tfidf, trained
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    faiss.omp_set_num_threads(threads)
    features, queries = tfidf(train, test)
    names, ids = numbered(labels)
    targets = label_matrix(ids, len(names))
    svd = TruncatedSVD(min(WIDTH, features.shape[1]), random_state=0)
    vectors = normalize(svd.fit_transform(features)).astype(np.float32)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    trained(folder, lambda path: faiss.write_index(index, path))
    neighbours = min(NEIGHBOURS, len(vectors))
    similar, nearest = index.search(
        normalize(svd.transform(queries)).astype(np.float32), neighbours
    )
    rows = np.repeat(np.arange(len(nearest)), neighbours)
    shape = (len(nearest), len(vectors))
    votes = sp.csr_matrix((np.maximum(similar, 0).ravel(), (rows, nearest.ravel())), shape)
    return best_of_rows((votes @ targets).tocsr(), names, k)
