"""Files whose ending says which few readers are asked for them."""

import pytest

from tfxc.core import registry
from tfxc.data.examples.kinds import INPUTS
from tfxc.data.reading.formats import FORMATS_OF_ENDINGS
from tfxc.data.reading.parsing.path_probe import PathProbe

READERS = {name: registry.get("reader", name) for name in registry.names("reader")}
FIRST_LINES = [
    b"", b"text,label\n", b'{"text": "a"}\n', b"__label__a b\n", b"1\ta\tb\n", b"3 10 5\n",
    b"0,2 1:0.5 3:1\n", b"1 1:0.5\n", b"a b c\n", b"1 |f a\n", b"PAR1\n",
]  # fmt: skip


@pytest.mark.parametrize("ending", FORMATS_OF_ENDINGS)
@pytest.mark.parametrize("input_kind", [None, *INPUTS])
def test_no_other_reader_recognises_such_a_file(tmp_path, ending, input_kind):
    expected = set(FORMATS_OF_ENDINGS[ending])
    assert expected >= {name for name, reader in READERS.items() if ending in reader.suffixes}
    for line in FIRST_LINES:
        path = tmp_path / f"train{ending}"
        path.write_bytes(line)
        probe = PathProbe(path, input_kind)
        assert expected >= {n for n, reader in READERS.items() if reader.recognises(probe)}
