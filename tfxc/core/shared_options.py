"""Options that several commands share, declared once; see ``tfxc.core.command_options``."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from tfxc.core.bounds import Count, Option

#: The models that a data file can be completed with, the quickest first.
PRESETS = ("fast", "balanced", "best")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrustOption:
    """Option of commands that open runs.

    Attributes:
        trust: import the modules that a run's config names (MODULE:CLASS), which runs their code.
    """

    trust: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOption(TrustOption):
    """Option of commands that open one run.

    Attributes:
        run: run folder.
    """

    run: Annotated[str, Option("RUN", name="--run", positional=True, mirror="reads")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetOption:
    """Option of commands that make or read a config.

    Attributes:
        set: change a config key, e.g. training.epochs=3 (may be given several times).
    """

    set: Annotated[Sequence[str], Option("KEY=VALUE", repeated=True)] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedOption:
    """Option of commands that read prepared data.

    Attributes:
        prepared: folder of prepared records.
    """

    prepared: Annotated[str, Option("FOLDER")] = "prepared"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptionalConfigOptions(SetOption, PreparedOption):
    """Options of commands that may read a config.

    Attributes:
        config: JSON config, or the name of one that comes with tfxc (see tfxc configs).
    """

    config: Annotated[str | None, Option("FILE")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigOptions(OptionalConfigOptions):
    """Options of commands that read a config."""

    config: Annotated[str, Option("FILE")] = dataclasses.field()  # else the inherited default


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColumnChoices:
    """Options of commands that look at a data file.

    Attributes:
        text_column: column of the texts (may be given several times: their texts are joined by line
            breaks); by default it is detected by its values.
        label_column: column of the labels (several times: columns of 0 and 1 that are a label
            each); by default it is detected by its values.
        encoding: encoding of the files, such as cp1252; None means detected.
    """

    text_column: Annotated[Sequence[str], Option("NAME", repeated=True)] = ()
    label_column: Annotated[Sequence[str], Option("NAME", repeated=True)] = ()
    encoding: Annotated[str | None, Option("NAME")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileChoices(ColumnChoices):
    """Options of commands that make a config of a data file.

    Attributes:
        dev: dev split; None means a part of FILE, see --no-refit.
        test: test split.
        preset: fast: a linear ranker; balanced: for texts, a linear ranker with a memory of its
            examples, or with a static table, for the rest a small network; best: whatever scores
            highest, see docs/choosing.md; None means best with --pretrained, fast for other texts,
            else balanced.
        pretrained: pretrained language model to fine-tune: its folder, or its name on the Hugging
            Face Hub.
        static: table of a vector per word or token for presets fast and balanced: wordllama, a
            folder of Model2Vec or of tfxc distill --to static, or a file of word vectors; by
            default wordllama for short English texts with one label each, if it is installed: with
            balanced, and with fast where labels have few examples.
        no_refit: train on 85 % of FILE only, and keep the model that is measured on the rest. By
            default that model chooses and is measured, and the run is trained once more, on all.
        run: run folder or its address; None means runs/NAME.
    """

    dev: Annotated[str | None, Option("FILE", remote=True)] = None
    test: Annotated[str | None, Option("FILE", remote=True)] = None
    preset: Literal[PRESETS] | None = None  # type: ignore[valid-type]
    pretrained: Annotated[str | None, Option("MODEL")] = None
    static: Annotated[str | None, Option("TABLE")] = None
    no_refit: bool = False
    run: Annotated[str | None, Option("FOLDER", remote=True)] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """Options of commands that read a file of examples.

    Attributes:
        reader: format of the file; None means by its name.
        reader_options: option of the reader, e.g. text_field=body (may be given several times).
    """

    reader: Annotated[str | None, Option("READER")] = None
    reader_options: Annotated[Mapping[str, Any], Option("KEY=VALUE", name="--reader-option")] = (
        dataclasses.field(default_factory=dict)
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileOptions(ReaderOptions):
    """Options of commands that answer the examples of a file, or of standard input.

    Attributes:
        file: file, or - for standard input.
        reader: format of FILE, e.g. lines for plain text; None means by its name.
        batch_size: examples per batch.
        cluster: let the workers of this Dask scheduler, e.g. tcp://host:8786, take a few batches of
            FILE at a time; None means this machine does all.
    """

    file: Annotated[str, Option("FILE", positional=True, remote=True)] = "-"
    batch_size: Count = 256
    cluster: Annotated[str | None, Option("ADDRESS", remote=True)] = None
