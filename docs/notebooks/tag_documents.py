# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Tag documents
# Each text has several labels, out of thousands. The data come with Python itself: the documents
# are the docstrings of the installed packages, and the labels are the names of the functions'
# parameters. Replace `builtin:apidocs` by the path of your own CSV, JSON lines or Parquet file.

# %%
import time

import numpy as np

import tfxc

train_texts, train_labels = tfxc.read("builtin:apidocs", split="train")
dev_texts, dev_labels = tfxc.read("builtin:apidocs", split="dev", limit=500)
print(f"{len(train_texts):,} documents, {len({x for row in train_labels for x in row}):,} labels")
print(dev_texts[0][:80], "->", dev_labels[0])


# %% [markdown]
# The usual metric of tagging is precision at k: the share of the k best labels that are true.


# %%
def precision(model, k):
    names, _ = model.predict_top_k(dev_texts, k=k)
    found = [len(set(row) & set(true)) / k for row, true in zip(names, dev_labels, strict=True)]
    return 100 * np.mean(found)


# %% [markdown]
# ## A linear ranker
# This is a tree over the labels with a linear classifier at each of its nodes. It needs no network
# and trains in seconds.

# %%
start = time.perf_counter()
linear = tfxc.XCClassifier(recipe="xr_linear").fit(train_texts, train_labels)
print(f"trained in {time.perf_counter() - start:.0f} s")
print(f"P@1 {precision(linear, 1):.1f}, P@3 {precision(linear, 3):.1f}")

# %% [markdown]
# ## Hashed classes
# MACH trains a few small classifiers over hashed buckets of labels instead of one over all labels.
# With hundreds of thousands of labels, that is what fits into memory.

# %%
start = time.perf_counter()
mach = tfxc.XCClassifier(
    head={"name": "mach", "num_buckets": 1024, "num_repetitions": 4}, epochs=8
).fit(train_texts, train_labels)
print(f"trained in {time.perf_counter() - start:.0f} s")
print(f"P@1 {precision(mach, 1):.1f}, P@3 {precision(mach, 3):.1f}")

# %% [markdown]
# ## Use the model
# A saved model is a run, which every command (`tfxc serve`, `evaluate`, `report`, `export`) and
# `tfxc.Run` can open.

# %%
linear.save("runs/notebook_tags")
run = tfxc.Run("runs/notebook_tags")
found = run.predict(["Return a sorted copy of the array along an axis."], k=5)
print(found.labels[0])
