"""The built-in glyphs, on a few dozen characters."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra [vision] is not installed")

from matplotlib.ft2font import FT2Font, LoadFlags
from PIL import Image, ImageDraw, ImageFont

from tests.contracts.formats import concatenated
from tfxc.core.errors import ConfigError, UserError
from tfxc.data.reading.builtin.glyphs import faces
from tfxc.data.reading.builtin.glyphs import reader as glyphs
from tfxc.data.reading.builtin.glyphs.drawing import draw
from tfxc.data.reading.builtin.glyphs.faces import FACES, font_folder
from tfxc.data.reading.builtin.glyphs.reader import Glyphs
from tfxc.data.reading.formats import open_reader

# Latin, Greek and Cyrillic capitals (many alike), marks that differ in height only, a blank
# pattern, a space, a private-use character, and one that few faces have (Tifinagh yam).
CHARACTERS = (
    "ABCDEHIKMO\u0391\u0392\u0395\u0396\u0397\u0410\u0412\u0415\u041a\u0421"
    "abcdegjq.\u00b7,'\u2019`\u2800 \uf6c5\u2d4e0123456789"
)
SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder with the images of ``CHARACTERS``."""
    folder = tmp_path_factory.mktemp("glyphs")
    read("train", folder)
    return folder


def read(split, cache, **options):
    settings = {"characters": CHARACTERS, "variants": 3, "image_size": 16, "jobs": 1}
    return open_reader("builtin:glyphs", split=split, cache_folder=cache, **{**settings, **options})


def examples(reader):
    """{(label, name): image}."""
    chunk = concatenated(reader.chunks(100))
    assert len(chunk) == reader.num_examples
    keys = [(labels[0], name) for labels, name in zip(chunk.labels, chunk.names, strict=True)]
    return dict(zip(keys, chunk.images, strict=True))


def outline(face, code):
    """Outline of a glyph as the font stores it, moved to begin at x = 0."""
    font = FT2Font(str(font_folder() / f"{FACES[face]}.ttf"))
    if code not in font.get_charmap():
        return None
    font.load_char(code, flags=LoadFlags.NO_SCALE)
    points, codes = font.get_path()
    if not len(points):
        return None
    return (points - [points[:, 0].min(), 0]).round(6).tobytes(), codes.tobytes()


def test_classes(cache):
    """Alike in a face = equal outlines there; classes are what that links."""
    reader = read("train", cache)
    names = reader.label_names
    assert (
        "U+0041 LATIN CAPITAL LETTER A" in names
        and "U+0391 GREEK CAPITAL LETTER ALPHA" not in names
    )
    assert {"U+002E FULL STOP", "U+00B7 MIDDLE DOT", "U+0027 APOSTROPHE"} <= set(names)
    absent = ("2800", "0020", "F6C5", "2D4E")
    assert not [name for name in names if name.startswith(tuple(f"U+{code}" for code in absent))]
    looks = {}
    for code in {ord(c) for c in CHARACTERS} - {int(code, 16) for code in absent}:
        for face in range(len(FACES)):
            found = outline(face, code)
            if found:
                looks.setdefault((face, found), set()).add(code)
    groups = []
    for linked in looks.values():
        touched = [group for group in groups if group & linked]
        groups = [group for group in groups if not group & linked]
        groups.append(linked.union(*touched))
    assert sorted(f"U+{min(group):04X}" for group in groups) == [name.split()[0] for name in names]
    assert reader.num_labels == len(groups)
    drawn = sum(reader.num_examples for reader in (read(split, cache) for split in SPLITS))
    assert drawn == 3 * len(looks), "every outline of a class once, three times distorted"


def test_splits(cache):
    parts = [examples(read(split, cache)) for split in SPLITS]
    keys = [key for part in parts for key in part]
    assert len(set(keys)) == len(keys)
    assert all(len(part) > 0.03 * len(keys) for part in parts)
    assert len(parts[0]) > 0.7 * len(keys)
    assert {label for label, _ in parts[0]} == set(read("train", cache).label_names)
    for split in SPLITS:
        both = [examples(read(split, cache, classes=part)) for part in ("seen", "unseen")]
        assert both[0].keys() | both[1].keys() == examples(read(split, cache)).keys()
        labels = [{label for label, _ in part} for part in both]
        assert not labels[0] & labels[1]
    seen, unseen = (read("train", cache, classes=part) for part in ("seen", "unseen"))
    assert 0 < unseen.num_labels < seen.num_labels
    assert not set(seen.label_names) & set(unseen.label_names)


def test_an_image_depends_on_nothing_else(cache, tmp_path):
    """Other characters, numbers of variants and splits: the same pixels."""
    all_images = {}
    for split in SPLITS:
        all_images |= examples(read(split, cache))
    fewer = {"characters": "B\u0392Aq7", "variants": 2}
    for split in SPLITS:
        found = examples(read(split, tmp_path, **fewer))
        assert all(np.array_equal(image, all_images[key]) for key, image in found.items())
    one = draw(ord("q"), 5, [2], 16)[0]
    name = f"U+0071 {FACES[5]} 2"
    np.testing.assert_array_equal(all_images["U+0071 LATIN SMALL LETTER Q", name][..., 0], one)
    assert (draw(ord("q"), 5, [0], 16) != one).any()


def test_processes_give_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(glyphs, "_GLYPHS_PER_TASK", 7)
    one = read("train", tmp_path / "one", characters="Rrßé", jobs=1)
    read("train", tmp_path / "two", characters="Rrßé", jobs=2)
    files = [path for path in (tmp_path / "one").rglob("*.*") if path.is_file()]
    assert len(files) == 8  # with the marker
    for path in files:
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert other.read_bytes() == path.read_bytes()
    assert one.label_names[-1] == "U+00E9 LATIN SMALL LETTER E WITH ACUTE"


@pytest.mark.parametrize(("character", "face"), [("L", 0), ("F", 8), ("g", 4), ("'", 1)])
def test_the_mean_image_is_the_plain_glyph(character, face):
    """Neither mirrored nor upside down nor off its height: beats all other poses of the glyph."""
    size = 32
    mean = draw(ord(character), face, range(60), size).mean(axis=0)
    canvas = Image.new("L", (size, size))
    font = ImageFont.truetype(font_folder() / f"{FACES[face]}.ttf", round(0.7 * size * 0.95))
    place = (size / 2, size / 2 + 0.33 * 0.7 * size * 0.95)
    ImageDraw.Draw(canvas).text(place, character, fill=255, font=font, anchor="ms")
    plain = np.asarray(canvas, float)

    def likeness(pixels):
        return np.corrcoef(pixels.ravel(), mean.ravel())[0, 1]

    poses = [plain[::-1], plain[:, ::-1], plain.T, np.roll(plain, 6, 0), np.roll(plain, -6, 0)]
    assert likeness(plain) > 0.6
    if character == "'":
        poses = poses[3:]  # as good as its own mirror image
    assert all(likeness(pose) < likeness(plain) for pose in poses)


def test_wide_and_tall_glyphs_fit():
    """A ligature twice as wide as high keeps clear of the border but for what distortion adds."""
    images = draw(0x01C4, 1, range(20), 32).astype(float)  # DŽ, bold
    border = np.concatenate([images[:, :, 0], images[:, :, -1]], axis=1)
    assert border.mean() < 40 < images.max()


def test_cache_and_fingerprint(cache, monkeypatch):
    reader = read("dev", cache)
    folder = cache / f"glyphs-{reader.source_fingerprint}"
    names = json.loads((folder / "classes.json").read_text("utf-8"))
    assert names == reader.label_names
    others = [
        {"variants": 2}, {"image_size": 17}, {"min_faces": 5}, {"characters": CHARACTERS + "z"},
    ]  # fmt: skip
    monkeypatch.setattr(glyphs, "_build", lambda *_: (_ for _ in ()).throw(KeyError("built")))
    for changes in ({"jobs": 2}, {"classes": "seen"}):
        assert read("dev", cache, **changes).source_fingerprint == reader.source_fingerprint
    for changes in others:
        with pytest.raises(KeyError, match="built"):
            read("dev", cache, **changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "trn"}, "split: must be one of train, dev, test, not 'trn'"),
        ({"classes": "some"}, "classes: must be one of all, seen, unseen, not 'some'"),
        ({"variants": 0}, "variants: must be an integer from 1 to 1000, not 0"),
        ({"image_size": 7}, "image_size: must be an integer from 8 to 512, not 7"),
        ({"min_faces": 13}, "min_faces: must be an integer from 1 to 12, not 13"),
        (
            {"characters": "\u2d4e"},
            "none of the characters is in 4 typefaces",
        ),
    ],
)
def test_errors(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        Glyphs(**{"characters": "A", "cache_folder": tmp_path, "jobs": 1, **options})
    assert not list(tmp_path.rglob("*.npy"))


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr(faces.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"matplotlib is not installed.*tfxc\[vision\]"):
        Glyphs(cache_folder=tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full")
def test_a_full_disk_is_reported_and_leaves_nothing_behind(tmp_path, monkeypatch):
    full = lambda _, mode: Path("/dev/full").open(mode)  # noqa: E731, SIM115
    monkeypatch.setattr(glyphs, "open", full, raising=False)
    with pytest.raises(UserError, match=r"the disk is full.*Free some space"):
        read("train", tmp_path, characters="AB")
    assert not list(tmp_path.iterdir())
