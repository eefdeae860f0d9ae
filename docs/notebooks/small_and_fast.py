# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Small and fast
# This notebook trains a text classifier for a cheap CPU, stores it in 8 bits, and calls it without
# TensorFlow (`pip install 'tfxc[onnx]'`).

# %%
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

import tfxc

texts, labels = tfxc.read("builtin:apidocs", split="train")
dev_texts, dev_labels = tfxc.read("builtin:apidocs", split="dev", limit=300)
model = tfxc.XCClassifier(
    {"name": "bag_mlp", "hidden": [256]}, text_features={"name": "tfidf", "min_df": 3}, epochs=6
)
model.fit(texts, labels)
model.save("runs/notebook_small")

# %% [markdown]
# ## Export
# The export compares the model with the run before it writes anything. It refuses an 8-bit model
# whose best labels change too often.

# %%
run = tfxc.Run("runs/notebook_small")
folders = {
    "savedmodel": run.export(),
    "onnx": run.export(format="onnx"),
    "onnx, 8 bits": run.export(format="onnx", quantize="int8"),
}
for name, folder in folders.items():
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{name:14} {size / 1e6:6.1f} MB")

# %% [markdown]
# ## Call it without tfxc
# The exported folder contains `predict.py`, which needs only NumPy and ONNX Runtime.

# %%
folder = folders["onnx, 8 bits"]
Path("runs/notebook_texts.txt").write_text("\n".join(dev_texts) + "\n", encoding="utf-8")
command = [sys.executable, str(folder / "predict.py"), "runs/notebook_texts.txt"]
done = subprocess.run(command, capture_output=True, text=True, check=True)
found = [json.loads(line)["labels"][0] for line in done.stdout.splitlines()]
hits = [name in true for name, true in zip(found, dev_labels, strict=True)]
print(f"P@1 in 8 bits, without TensorFlow: {100 * np.mean(hits):.1f}")
names, _ = model.predict_top_k(dev_texts, k=1)
hits = [row[0] in true for row, true in zip(names, dev_labels, strict=True)]
print(f"P@1 of the run: {100 * np.mean(hits):.1f}")
