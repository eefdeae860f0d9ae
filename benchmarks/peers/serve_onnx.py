"""FastAPI before ONNX Runtime: a network that ``tfxc export --format onnx`` wrote.

``python serve_onnx.py PORT FOLDER``; ``pip install fastapi uvicorn httptools onnxruntime``.
"""

import sys
from pathlib import Path

from _serving import serve


def main():
    import onnxruntime

    folder = Path(sys.argv[2])
    sys.path.insert(0, str(folder))
    from text_features.tokenize import load

    cut = load(folder / "text_features")
    names = (folder / "labels.txt").read_text("utf-8").split("\n")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)

    def answer(queries, k):
        ids, scores = model.run(["label_ids", "scores"], cut(queries))
        return names, ids[:, :k], scores[:, :k]

    serve(answer, int(sys.argv[1]))


if __name__ == "__main__":
    main()
