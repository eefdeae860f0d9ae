"""The model card of a run: Markdown with the front matter that the Hugging Face Hub reads.

Format: https://huggingface.co/docs/hub/model-cards and its specification of ``model-index``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfxc.core.escaping import json_text, markdown_text
from tfxc.data.examples.kinds import KINDS
from tfxc.reports.measured import SLICE_COLUMNS, Measured
from tfxc.reports.tables import average_rows, markdown

FILE = "card.md"
#: The Hub's name of each metric of the headline that it knows.
_HUB_METRICS = {
    "accuracy": "accuracy",
    "micro-F1": "f1",
    "macro-F1": "f1",
    "micro-precision": "precision",
    "micro-recall": "recall",
}
_TASKS = {"image": ("image-classification", "Image Classification")}
_TEXT = ("text-classification", "Text Classification")
_FEATURES = ("tabular-classification", "Tabular Classification")


def model_card(
    measured: Measured,
    license_name: str = "unknown",
    languages: Sequence[str] = (),
    tags: Sequence[str] = (),
    name: str | None = None,
) -> str:
    """Returns the card as text.

    Args:
        measured: whose results it holds.
        license_name: the Hub's name of the model's license, e.g. ``"apache-2.0"``.
        languages: of the texts, as ISO 639-1 has them, e.g. ``"en"``.
        tags: in addition to those of the run.
        name: of the model; default: that of the run's folder.

    Returns:
        Front matter and Markdown.
    """
    name = name or measured.loaded.folder.path.resolve().name
    head = front_matter(measured, license_name, languages, tags, name)
    return f"---\n{yaml_text(head)}---\n\n" + "\n".join(_body(measured, name))


def front_matter(
    measured: Measured, license_name: str, languages: Sequence[str], tags: Sequence[str], name: str
) -> dict[str, Any]:
    """Returns what the Hub reads, see ``model_card``."""
    task, task_name = _task(measured)
    data = measured.loaded.manifest["name"]
    results = _results(measured)
    head: dict[str, Any] = {"license": license_name}
    if languages:
        head["language"] = list(languages)
    several = "multi-class" if measured.loaded.single_label else "multi-label"
    tags_of_run = ["tfxc", "extreme-classification", several, *(m for _, m in measured.methods())]
    known = sorted({_HUB_METRICS[each] for each in results if each in _HUB_METRICS})
    result = {
        "task": {"type": task, "name": task_name},
        "dataset": {"type": _slug(data), "name": data, "split": measured.name},
        "metrics": [
            {"type": _HUB_METRICS.get(each, _slug(each)), "name": each, "value": round(value, 6)}
            for each, value in results.items()
        ],
    }
    return head | {
        "library_name": "tfxc",
        "pipeline_tag": task,
        "tags": list(dict.fromkeys([*tags_of_run, *tags])),
        "datasets": [_slug(data)],
        "metrics": known,
        "model-index": [{"name": name, "results": [result]}],
    }


def yaml_text(value: Mapping[str, Any], indent: str = "") -> str:
    """Returns a dict of texts, numbers, lists and dicts as YAML; texts are quoted as JSON has them.

    Example:
        >>> print(yaml_text({"tags": ["a", "b: c"], "size": {"labels": 3}}), end="")
        tags:
        - "a"
        - "b: c"
        size:
          labels: 3
    """
    lines = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            lines.append(f"{indent}{key}:\n{yaml_text(item, indent + '  ')}")
        elif isinstance(item, list):
            lines.append(f"{indent}{key}:{'' if item else ' []'}\n")
            lines += [f"{indent}- {_item(each, indent)}" for each in item]
        else:
            lines.append(f"{indent}{key}: {json_text(item)}\n")
    return "".join(lines)


def _item(value: object, indent: str) -> str:
    if not isinstance(value, Mapping):
        return f"{json_text(value)}\n"
    return yaml_text(value, indent + "  ").lstrip(" ")


def _results(measured: Measured) -> dict[str, float]:
    """Returns the headline, with micro precision and recall; what is no share is left out."""
    averages = measured.decisions.per_label.classification.result()
    more = {name: averages[name] for name in ("micro-precision", "micro-recall")}
    return measured.headline() | more


def _task(measured: Measured) -> tuple[str, str]:
    loaded = measured.loaded
    if loaded.text_features is not None:
        return _TEXT
    return _TASKS.get(KINDS[loaded.manifest["feature_kind"]].name, _FEATURES)


def _slug(name: str) -> str:
    """Returns a name as the Hub writes it: letters, digits and dashes."""
    return re.sub(r"[^\w.]+", "-", name).strip("-").lower() or "data"


def _body(measured: Measured, name: str) -> Iterator[str]:
    loaded = measured.loaded
    manifest = loaded.manifest
    summary = measured.summary()
    yield f"# {markdown_text(name)}\n"
    methods = ", ".join(f"{kind} `{method}`" for kind, method in measured.methods())
    yield (
        f"A classifier of {manifest['num_labels']:,} labels, trained with tfxc on "
        f"{markdown_text(manifest['name'])}: {methods}.\n"
    )
    yield f"## Results on {markdown_text(measured.name)}\n"
    rows = [(metric, float(value)) for metric, value in _results(measured).items()]
    yield (
        f"{measured.metrics.num_examples:,} examples. Precision, recall and F1 are those of the "
        f"{measured.decisions.per_label.decision}.\n"
    )
    yield markdown(("metric", "value"), rows) + "\n"
    averages = average_rows(measured.decisions.per_label, loaded.vocabulary.names)
    yield markdown(("average", "precision", "recall", "F1"), averages) + "\n"
    yield "By the frequency of the labels in training, a third of all occurrences each:\n"
    shown = [tuple("" if cell is None else cell for cell in row) for row in measured.slices()]
    yield markdown(("slice", *SLICE_COLUMNS), shown) + "\n"
    yield "## Use\n\n```bash\ntfxc predict --run FOLDER FILE\n```\n"
    yield "FOLDER is the run's folder, FILE one of examples.\n"
    yield "## Training\n"
    splits = [
        (split, sizes["examples"], sizes["labels"], loaded.manifest["sources"].get(split, {}))
        for split, sizes in manifest["splits"].items()
    ]
    files = [(s, e, n, source.get("sha256") or "") for s, e, n, source in splits]
    yield markdown(("split", "examples", "labels of examples", "SHA-256 of the file"), files) + "\n"
    steps = f"{summary['steps']:,} steps, " if "steps" in summary else ""
    yield f"{steps}{summary.get('seconds', 0):,} s, seed {loaded.config.seed}.\n"
    environment = loaded.folder.environment()
    if environment is not None:
        facts = {"tfxc": environment.tfxc, **environment.packages, **environment.machine()}
        yield markdown(("", ""), [*facts.items()]) + "\n"
    # Three backquotes would end the fence; in JSON they are in texts only.
    config = loaded.config.to_json().replace("`", "\\u0060")
    yield f"<details><summary>Config</summary>\n\n```json\n{config}\n```\n\n</details>\n"
