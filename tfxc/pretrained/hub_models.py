"""Models of the Hugging Face Hub, by name: in its cache, or downloaded into it."""

import re
from pathlib import Path

from tfxc.core.errors import ConfigError, missing_package

_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
_ABOUT = ["*.json", "*.txt", "*.model"]
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")  # the second where there are none of the first


def is_hub_name(written: str) -> bool:
    """Tells whether a text may be the name of a model: ``name`` or ``owner/name``.

    Example:
        >>> is_hub_name("google/bert_uncased_L-2_H-128_A-2"), is_hub_name("./models/minilm")
        (True, False)
    """
    return _NAME.fullmatch(written) is not None


def hub_folder(name: str, where: str) -> Path:
    """Returns the folder of a model in the cache of ``huggingface_hub`` (``HF_HOME``).

    What is missing there is downloaded; without a network, what is there is taken.

    Args:
        name: ``name`` or ``owner/name``.
        where: option or config key, for messages.

    Raises:
        ConfigError: huggingface_hub is not installed, the Hub has no such model, or it cannot be
            reached and the cache does not have the model.
    """
    with missing_package("hub", where=where):
        import huggingface_hub
        from huggingface_hub import errors
    try:
        for weights in _WEIGHTS:
            patterns = [*_ABOUT, weights]
            folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns))
            if any(folder.glob(weights)):
                break
    except errors.LocalEntryNotFoundError:
        raise ConfigError(
            "there is no such folder, huggingface.co cannot be reached, and its cache does not "
            "have the model",
            where=where,
            fix="check the network, or give the folder of a downloaded model",
        ) from None
    except (errors.HfHubHTTPError, errors.HFValidationError) as error:
        raise ConfigError(
            f"there is no such folder, and huggingface.co refuses the name: "
            f"{str(error).strip().splitlines()[0].rstrip('.')}",
            where=where,
            fix="give the folder or the name of a pretrained model",
        ) from None
    return folder
