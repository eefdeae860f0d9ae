# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Recognise unseen characters
# This is face recognition on a small scale: a network learns an embedding of some classes with an
# angular margin. It then decides whether two images of *other* classes show the same character.
# The images are characters of the installed fonts (`pip install 'tfxc[vision]'`). They are drawn
# once, which takes two minutes.

# %%
import numpy as np
from sklearn.metrics import roc_auc_score

import tfxc

images, labels = tfxc.read("builtin:glyphs", limit=2400)
classes, ids = np.unique(labels, return_inverse=True)
known = ids < 0.8 * len(classes)
print(f"{len(images):,} images of {images.shape[1:]}, {len(classes)} characters")

# %% [markdown]
# ## Train on four fifths of the characters

# %%
model = tfxc.XCClassifier(
    {"name": "resnet", "depth": 10, "embedding_dim": 64},
    {"name": "margin", "scale": 16.0, "m2": 0.2},
    "softmax",
    epochs=3,
    batch_size=64,
    learning_rate=0.003,
)
model.fit(images[known], labels[known])
model.save("runs/notebook_characters")

# %% [markdown]
# ## Verify on the others
# The score of a pair is the cosine of the two embeddings.

# %%
vectors = tfxc.Run("runs/notebook_characters").encode(images[~known])
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
others = ids[~known]
random = np.random.default_rng(0)
left, right = random.integers(0, len(others), (2, 20_000))
same = others[left] == others[right]
cosines = (vectors[left] * vectors[right]).sum(axis=1)
print(f"{same.sum()} pairs of the same character, {(~same).sum():,} of two")
print(f"area under the ROC curve: {roc_auc_score(same, cosines):.3f}")

# %% [markdown]
# `tfxc verify` measures such pairs as LFW, IJB-B and IJB-C do; see docs/verification.md.
