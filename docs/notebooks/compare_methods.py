# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Compare methods
# This notebook compares published methods for many classes. Data, encoder, epochs and seed are the
# same; only the head and the objective differ. The data are synthetic, so that the notebook runs in
# a minute: 400 classes, each with its own mean in 32 dimensions.

# %%
import time

import numpy as np

import tfxc

CLASSES, WIDTH = 400, 32
random = np.random.default_rng(0)
means = random.normal(size=(CLASSES, WIDTH)).astype(np.float32)


def draw(count):
    labels = random.integers(0, CLASSES, count)
    noise = random.normal(size=(count, WIDTH)).astype(np.float32)
    return means[labels] + 0.6 * noise, labels


train, dev = draw(12_000), draw(2_000)

# %% [markdown]
# * `dense`: one column of weights per class.
# * `mach`: 4 times 64 hashed buckets (Medini et al. 2019).
# * `mhp`: a class is two digits, each with its own softmax (multi-head encoding, product).
# * `mhc`: the second digit is predicted given the first (cascade).
# * `margin`: ArcFace, an angular margin between the classes.
# * `scent`: a dual variable for each example instead of the softmax's sum over the classes.

# %%
METHODS = {
    "dense, softmax": ("dense", "softmax"),
    "mach": ({"name": "mach", "num_buckets": 64, "num_repetitions": 4}, "softmax"),
    "mhp, 20 x 20": ({"name": "mhp", "heads": [20, 20]}, "softmax"),
    "mhc, 20 x 20": ({"name": "mhc", "heads": [20, 20]}, "softmax"),
    "margin (ArcFace)": ({"name": "margin", "scale": 16.0, "m2": 0.2}, "softmax"),
    "sampled, scent": ({"name": "sampled"}, "scent"),
}

rows = []
for name, (head, objective) in METHODS.items():
    start = time.perf_counter()
    encoder = {"name": "bag_mlp", "hidden": [256]}
    model = tfxc.XCClassifier(encoder, head, objective, epochs=12, learning_rate=0.005)
    model.fit(*train)
    rows.append((name, 100 * model.score(*dev), time.perf_counter() - start))

# %%
print(f"{'method':20} {'accuracy':>8} {'seconds':>8}")
for name, accuracy, seconds in rows:
    print(f"{name:20} {accuracy:8.1f} {seconds:8.1f}")

# %% [markdown]
# With 400 classes a dense head is small, so the others save nothing. docs/results.md has
# measurements on published data sets, and the cost of a step with up to a million classes.
