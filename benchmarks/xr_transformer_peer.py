"""A config of recipe xr_transformer and xtransformer of libpecos 1.2.8 on the same texts.

    python benchmarks/xr_transformer_peer.py --config configs/xr_transformer_clinc150.json \\
        --pecos-python /path/to/python/with/libpecos

libpecos needs its own Python, e.g. ``pip install libpecos==1.2.8 torch==2.13.0
"transformers==4.46.3" "huggingface-hub<1.0" "peft==0.13.2" "datasets==2.21.0" "accelerate==1.1.1"
"numpy<2" "scipy<1.14"``. It gets the config's encoder folder (of the BERT family), TF-IDF, tree,
epochs per level, batch size, learning rate, warm-up, clipping and ranker; its vector is BERT's
pooled first token. Prints P@1/3/5 on the dev split and the seconds of both.
"""

import argparse
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _peers import SCORES, print_rows, train_ours

_OURS = {"refined_tree", "first_tree", "encoding_length", "fix_clustering", "do_fine_tune", "steps"}


def read_lines(path):
    """Texts and lists of labels of a file of JSON lines."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row["text"] for row in rows], [row["labels"] for row in rows]


def matrices(train, dev, terms):
    """TF-IDF of both splits and the training labels, CSR; the label names."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import MultiLabelBinarizer

    vectorizer = TfidfVectorizer(
        ngram_range=tuple(terms.get("ngram_range", (1, 1))),
        min_df=terms.get("min_df", 1),
        token_pattern=terms.get("token_pattern", r"\w+"),
        sublinear_tf=terms.get("sublinear_tf", False),
        dtype=np.float32,
    )
    binarizer = MultiLabelBinarizer(sparse_output=True)
    features = vectorizer.fit_transform(train[0]).tocsr(), vectorizer.transform(dev[0]).tocsr()
    labels = binarizer.fit_transform(train[1]).astype(np.float32).tocsr()
    for matrix in (*features, labels):
        matrix.sort_indices()
    return *features, labels, list(binarizer.classes_)


def encoder_folder(model, folder):
    """Writes a hub folder as libpecos wants to start from it."""
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(model).save_pretrained(folder / "text_encoder")
    AutoTokenizer.from_pretrained(model).save_pretrained(folder / "text_tokenizer")


def level(config, epochs, examples, start):
    """Parameters of libpecos for a level of a config of ours."""
    recipe = config["recipe"]
    training = config["training"]
    steps = int(epochs * examples) // training["batch_size"]
    return {
        "negative_sampling": recipe.get("negatives", "tfn+man"),
        "loss_function": "weighted-squared-hinge",
        "bootstrap_method": recipe.get("initial", "linear"),
        "threshold": recipe.get("threshold", 0.001),
        "cost_sensitive_ranker": recipe.get("cost_sensitive", False),
        "batch_size": training["batch_size"],
        "max_steps": steps,
        "warmup_steps": int(training["schedule"].get("warmup", 0) * steps),
        "save_steps": steps,  # the weights of the last step
        "learning_rate": training["optimizer"]["learning_rate"],
        "weight_decay": training["optimizer"].get("weight_decay", 0.0),
        "max_grad_norm": training["clip_norm"],
        "init_model_dir": str(start),
        "batch_gen_workers": 1,  # libpecos divides by it
        "use_gpu": False,
    }


def parameters(config, examples, start):
    """Training and prediction parameters of libpecos for a config of ours."""
    recipe = config["recipe"]
    head = config["head"]
    other = [*_OURS & set(recipe), *set(recipe.get("ranker", {})) - {"threshold"}]
    if other:
        sys.exit(f"libpecos gets no equal of recipe.{other[0]}: compare a config without it")
    tree = {
        "nr_splits": head["nr_splits"],
        "min_codes": head.get("min_codes", head["nr_splits"]),
        "max_leaf_size": head["max_leaf_size"],
    }
    ranker = {"threshold": recipe.get("ranker", {}).get("threshold", 0.001)}
    train = {
        "preliminary_indexer_params": tree,
        "refined_indexer_params": tree,
        "matcher_params_chain": [level(config, e, examples, start) for e in recipe["epochs"]],
        "ranker_params": {"hlm_args": {"model_chain": ranker}},
    }
    matcher = {
        "only_topk": recipe.get("only_topk", 20),
        "post_processor": "l3-hinge",  # as ours and the published runs; its default is noop
        "ensemble_method": recipe.get("ensemble", "concat-only"),
        "truncate_length": config["data"]["text_features"]["tokens"]["max_length"],
    }
    return train, {"matcher_params_chain": [matcher] * len(recipe["epochs"])}


def pecos_worker(config):
    """Trains the peer and prints one JSON line."""
    import numpy as np
    from pecos.utils.torch_util import set_seed
    from pecos.xmc.xtransformer.model import XTransformer
    from pecos.xmc.xtransformer.module import MLProblemWithText

    settings = json.loads(Path(config).read_text())
    train, dev = (read_lines(settings["data"][split]) for split in ("train", "dev"))
    terms = settings["data"]["text_features"]["terms"]
    x, x_dev, y, names = matrices(train, dev, terms)
    set_seed(settings.get("seed", 0))
    with tempfile.TemporaryDirectory() as folder:
        encoder_folder(settings["encoder"]["folder"], Path(folder))
        fit, find = (
            kind.from_dict(part, recursive=True)
            for kind, part in zip(
                (XTransformer.TrainParams, XTransformer.PredParams),
                parameters(settings, len(train[0]), folder),
                strict=True,
            )
        )
        begin = time.perf_counter()
        model = XTransformer.train(
            MLProblemWithText(train[0], y, X_feat=x), train_params=fit, pred_params=find
        )
        seconds = time.perf_counter() - begin
    scores = model.predict(
        dev[0], X_feat=x_dev, beam_size=10, only_topk=5, use_gpu=False, batch_gen_workers=1
    )
    ids = np.argsort(-scores.toarray(), axis=1, kind="stable")[:, :5]
    row = {name: hits(ids, names, dev[1], k) for name, k in zip(SCORES, (1, 3, 5), strict=True)}
    print(json.dumps({"seconds": seconds, **row}))


def hits(ids, names, labels, k):
    """P@k of int (n, 5) predictions."""
    pairs = zip(ids, labels, strict=True)
    return sum(names[i] in known for row, known in pairs for i in row[:k]) / (k * len(labels))


def main():
    """Prints both rows and the ratio of the training times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", default="configs/xr_transformer_clinc150.json")
    parser.add_argument("--pecos-python", default=sys.executable, help="a Python with libpecos")
    parser.add_argument("--set", action="append", default=[], help="change of the config")
    parser.add_argument("--only", choices=("tfxc", "libpecos"), help="one of the two")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return pecos_worker(options.worker)
    rows = {}
    if options.only != "tfxc":
        rows["libpecos"] = run_pecos(options)
    if options.only != "libpecos":
        rows["tfxc"] = train_ours(options.config, changes=[*options.set, "evaluation.k=[1,3,5]"])
    print_rows(rows, "libpecos")
    return 0


def run_pecos(options):
    """The peer's row."""
    from tfxc.data.reading.inspection.completion import load_config

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        os.environ.setdefault("TFXC_DATA", "data")
        os.environ.setdefault("TFXC_MODELS", "models")
        path.write_text(os.path.expandvars(load_config(options.config, options.set).to_json()))
        command = [options.pecos_python, __file__, "--worker", str(path)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
