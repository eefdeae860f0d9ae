"""IJB's meta files, and the alignment of faces."""

import numpy as np
import pytest
import scipy.ndimage

from tfxc.core.errors import DataError
from tfxc.data.images.alignment import TEMPLATE, aligned_images, similarities
from tfxc.data.verification.templates import AlignedFaces, open_templates


def umeyama(source, target):
    """The closed form of Umeyama 1991 by singular values, equations 40 to 42."""
    mean, other = source.mean(0), target.mean(0)
    left, values, right = np.linalg.svd((target - other).T @ (source - mean) / len(source))
    signs = np.array([1, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = left @ np.diag(signs) @ right
    scale = (values * signs).sum() / ((source - mean) ** 2).sum() * len(source)
    return np.column_stack([scale * rotation, other - scale * rotation @ mean])


def test_similarities_against_umeyama():
    random = np.random.default_rng(0)
    points = TEMPLATE * random.uniform(0.3, 3, (20, 1, 1)) + random.normal(0, 9, (20, 5, 2))
    points[10:] = random.normal(0, 50, (10, 5, 2))  # nothing like a face, reflections included
    found = similarities(points)
    for one, matrix in zip(points, found, strict=True):
        np.testing.assert_allclose(matrix, umeyama(one, TEMPLATE), atol=1e-9)
    with pytest.raises(DataError, match="all landmarks of face 2 coincide"):
        similarities(np.stack([TEMPLATE, np.ones((5, 2))]))


def write_image(path, pixels):
    import tensorflow as tf

    path.write_bytes(tf.io.encode_png(pixels).numpy())
    return path


def smooth_image(random, height, width):
    image = scipy.ndimage.gaussian_filter(random.uniform(0, 255, (height, width, 3)), (4, 4, 0))
    return ((image - image.min()) / np.ptp(image) * 255).astype(np.uint8)


def test_aligned_images_against_scipy(tmp_path):
    """Images of two sizes, turned faces; the corners lie outside of the smaller one."""
    random = np.random.default_rng(1)
    images = [smooth_image(random, 90, 130), smooth_image(random, 200, 150)]
    paths = [write_image(tmp_path / f"{i}.png", image) for i, image in enumerate(images)]
    turn = np.array([[0.8, -0.5], [0.5, 0.8]])
    points = np.stack([TEMPLATE @ turn + [10, -5], 1.4 * TEMPLATE + [3.3, 7.7]])
    (batch,) = aligned_images(paths, points, 4)
    assert batch.shape == (2, 112, 112, 3) and batch.dtype == np.uint8
    rows, columns = np.mgrid[:112, :112]
    for image, one, found in zip(images, points, batch, strict=True):
        matrix = np.linalg.inv(np.vstack([umeyama(one, TEMPLATE), [0, 0, 1]]))
        x, y, _ = np.einsum("ij,jrc->irc", matrix, np.stack([columns, rows, np.ones_like(rows)]))
        for channel in range(3):
            expected = scipy.ndimage.map_coordinates(
                image[..., channel].astype(float), [y, x], order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(found[..., channel], expected, atol=0.51)
    assert (batch[0] == 0).all(axis=-1).any(), "black outside"


@pytest.fixture
def root(tmp_path):
    """Three images in two templates."""
    meta = tmp_path / "meta"
    (tmp_path / "loose_crop").mkdir()
    meta.mkdir()
    random = np.random.default_rng(2)
    lines = []
    for number in range(3):
        write_image(tmp_path / "loose_crop" / f"{number}.png", smooth_image(random, 112, 112))
        landmarks = " ".join(f"{value:.4f}" for value in TEMPLATE.ravel())
        lines.append(f"{number}.png {landmarks} 0.{number + 5}\n")
    (meta / "ijbc_name_5pts_score.txt").write_text("".join(lines))
    (meta / "ijbc_face_tid_mid.txt").write_text("0.png 7 100\n1.png 3 101\n2.png 7 102\n")
    (meta / "ijbc_template_pair_label.txt").write_text("7 3 0\n7 7 1\n")
    return tmp_path


def test_meta_files(root):
    found = open_templates(root, "ijbc")
    assert found.names == ["0.png", "1.png", "2.png"]
    np.testing.assert_allclose(found.points[1], TEMPLATE, atol=1e-4)
    assert found.scores.tolist() == [0.5, 0.6, 0.7]
    assert found.template_ids.tolist() == [7, 3, 7]
    assert found.media_ids.tolist() == [100, 101, 102]
    assert found.same.tolist() == [False, True]
    assert found.rows_of(np.array([3, 7])).tolist() == [[1, 0], [1, 1]]
    with pytest.raises(DataError, match="template 7 is in a pair, but has no images"):
        found.rows_of(np.array([3, 5]))


def test_faces_come_aligned(root):
    templates = open_templates(root, "ijbc")
    chunks = list(AlignedFaces(templates).chunks(2))
    assert [chunk.images.shape for chunk in chunks] == [(2, 112, 112, 3), (1, 112, 112, 3)]
    assert chunks[1].names == ["2.png"]
    (whole,) = aligned_images(
        [root / "loose_crop" / name for name in templates.names], templates.points, 3
    )
    np.testing.assert_array_equal(chunks[1].images[0], whole[2])


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("name_5pts_score", "0.png 1 2 3\n", "a line does not have 11 numbers"),
        (
            "face_tid_mid",
            "0.png 7 100\n9.png 3 101\n2.png 7 1\n",
            r"mid\.txt:2: the image is '9\.png', but '1\.png' in",
        ),
        ("face_tid_mid", "0.png 7 100\n", "the file has 1 lines, but .* has 3"),
        ("face_tid_mid", "0.png 7 x\n1.png 3 1\n2.png 7 1\n", "could not convert string 'x'"),
        ("template_pair_label", "7 3 2\n", r"label\.txt:1: the third number is neither 0 nor 1"),
        ("template_pair_label", "\n", "the file is empty"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_wrong_meta_files(root, file, text, message):
    (root / "meta" / f"ijbc_{file}.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        open_templates(root, "ijbc")


def test_missing_files(root):
    with pytest.raises(DataError, match=r"ijbb_name_5pts_score\.txt: no such file"):
        open_templates(root, "ijbb")
    templates = open_templates(root, "ijbc")
    (root / "loose_crop" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"an image cannot be decoded: .*1\.png"):
        list(AlignedFaces(templates).chunks(2))
    (root / "loose_crop" / "1.png").unlink()
    with pytest.raises(DataError, match=r"image '1\.png' \(line 2 of the meta files\) is missing"):
        AlignedFaces(templates)
