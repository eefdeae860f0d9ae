"""The HTTP interface in this process: answers against the predictor, and every refusal."""

import base64
import functools
import json

import numpy as np
import pytest

from tests.serving.runs import client_of, local_client, text_run
from tests.small_runs import NAMES, TEXTS, make_run
from tfxc.data.examples.chunk import Chunk
from tfxc.inference.predictors import RunPredictor
from tfxc.runs.loaded import load_run
from tfxc.serving.limits import Limits

LIMITS = Limits(examples=8, body_bytes=6000, k=10, seconds=60, batch=4)
SERVED = "/v1/models/first"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    text_run(folder / "first")
    make_run(folder / "second", text_features={"name": "tfidf", "min_df": 1})
    make_run(
        folder / "dense", kind="dense", num_features=3,
        encoder={"name": "precomputed"}, objective={"name": "softmax"},
    )  # fmt: skip
    make_run(folder / "sparse", num_features=6)
    make_run(
        folder / "image", kind="image", num_features=192, image_shape=[8, 8, 3],
        encoder={"name": "resnet", "depth": 10, "width": 4},
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module", autouse=True)
def _forget():
    yield
    predictor.cache_clear()
    loaded.cache_clear()


@pytest.fixture(scope="module")
def served(runs):
    names = ("first", "second", "dense", "sparse", "image")
    client, application = client_of({name: runs / name for name in names}, LIMITS)
    with client:
        yield client, application


@pytest.fixture
def client(served):
    return served[0]


@functools.cache
def predictor(run, k):
    return RunPredictor(loaded(run), k, None)


@functools.cache
def loaded(run):
    return load_run(run)


def expected(run, chunk, k):
    """(label, score) pairs of each example, by ``tfxc predict``'s predictor."""
    found = predictor(run, k)(chunk)
    pairs = zip(found.labels, found.scores.tolist(), strict=True)
    return [list(zip(labels, scores, strict=True)) for labels, scores in pairs]


def assert_same(found, wanted):
    """Labels are the same and scores differ by rounding only: batches may differ in size."""
    assert [[label for label, _ in row] for row in found] == [[n for n, _ in row] for row in wanted]
    for row, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose([s for _, s in row], [s for _, s in other], rtol=1e-5)


def pairs_of(answer):
    return [[(p["label"], p["score"]) for p in row] for row in answer["predictions"]]


@pytest.mark.parametrize("k", [1, 3, 7, 10])
def test_simple_form(client, runs, k):
    answer = client.post("/predict", json={"texts": TEXTS, "k": k, "model": "second"})
    assert answer.status_code == 200
    found = answer.json()
    assert (found["model"], found["version"], found["probabilities"]) == ("second", 1, True)
    assert_same(pairs_of(found), expected(runs / "second", texts(TEXTS), k))
    assert all(p["label"] == NAMES[p["id"]] for row in found["predictions"] for p in row)


def texts(values):
    return Chunk([[] for _ in values], texts=list(values))


def test_first_model_and_5_labels_are_meant_where_nothing_is_said(client, runs):
    found = client.post("/predict", json={"texts": TEXTS[:1]}).json()
    assert_same(pairs_of(found), expected(runs / "first", texts(TEXTS[:1]), 5))


def test_rows_and_columns_of_tensorflow_serving(client, runs):
    wanted = expected(runs / "first", texts(TEXTS), 5)
    bodies = [
        {"instances": TEXTS},
        {"signature_name": "serving_default", "instances": [{"text": t} for t in TEXTS]},
        {"instances": [{"b64": base64.b64encode(t.encode()).decode()} for t in TEXTS]},
    ]
    for body in bodies:
        rows = client.post(f"{SERVED}:predict", json=body).json()["predictions"]
        found = [list(zip(row["labels"], row["scores"], strict=True)) for row in rows]
        assert_same(found, wanted)
        assert [[NAMES[i] for i in row["ids"]] for row in rows] == [row["labels"] for row in rows]
    for body in ({"inputs": TEXTS}, {"inputs": {"text": TEXTS}}):
        address = f"{SERVED}/versions/1:predict"
        columns = client.post(address, json=body).json()["outputs"]
        found = [list(zip(*row, strict=True))
                 for row in zip(columns["labels"], columns["scores"], strict=True)]  # fmt: skip
        assert_same(found, wanted)


def test_status_and_metadata(client):
    (status,) = client.get(SERVED).json()["model_version_status"]
    assert (status["version"], status["state"]) == ("1", "AVAILABLE")
    found = client.get(f"{SERVED}/versions/1/metadata").json()
    assert found["model_spec"] == {"name": "first", "signature_name": "", "version": "1"}
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["text"]["dtype"] == "DT_STRING"
    sizes = [dim["size"] for dim in signature["outputs"]["scores"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "5"]


def test_vectors(client, runs):
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    wanted = expected(runs / "dense", Chunk([[]] * 4, features=rows), 5)
    found = client.post("/predict", json={"features": rows.tolist(), "model": "dense"}).json()
    assert_same(pairs_of(found), wanted)
    for body in ({"instances": rows.tolist()}, {"signature_name": "features",
                 "instances": [{"features": row} for row in rows.tolist()]}):  # fmt: skip
        answer = client.post("/v1/models/dense:predict", json=body).json()
        assert "predictions" in answer, answer
        rows_found = answer["predictions"]
        assert_same([list(zip(r["labels"], r["scores"], strict=True)) for r in rows_found], wanted)


def test_bags(client, runs):
    import scipy.sparse

    bags = scipy.sparse.csr_matrix(np.float32([[0, 1, 0, 0, 0, 2], [0, 0, 0, 0, 0, 0]]))
    wanted = expected(runs / "sparse", Chunk([[]] * 2, features=bags), 5)
    body = {"features": [{"5": 2, "1": 1.0}, {}], "model": "sparse"}
    assert_same(pairs_of(client.post("/predict", json=body).json()), wanted)
    inputs = {"ids": [1, 5], "weights": [1.0, 2.0], "row_splits": [0, 2, 2]}
    found = client.post("/v1/models/sparse:predict", json={"inputs": inputs}).json()["outputs"]
    assert found["labels"] == [[label for label, _ in row] for row in wanted]


def test_images(client, runs):
    import tensorflow as tf

    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    files = [base64.b64encode(tf.io.encode_png(p).numpy()).decode() for p in pixels]
    wanted = expected(runs / "image", Chunk([[]] * 2, images=pixels), 5)
    answer = client.post("/predict", json={"images": files, "model": "image"})
    assert_same(pairs_of(answer.json()), wanted)
    given = {"encoded": [{"b64": file} for file in files], "serving_default": pixels.tolist()}
    for signature, instances in given.items():
        body = {"signature_name": signature, "instances": instances}
        answer = client.post("/v1/models/image:predict", content=json.dumps(body))
        rows = answer.json()["predictions"]
        assert_same([list(zip(r["labels"], r["scores"], strict=True)) for r in rows], wanted)


def test_neighbours(client, runs):
    model = loaded(runs / "first").model
    ids, scores = model.similar_labels(2, 3)
    found = client.post("/neighbours", json={"label": NAMES[2], "k": 3}).json()
    assert (found["model"], found["version"], found["label"]) == ("first", 1, NAMES[2])
    assert [one["id"] for one in found["neighbours"]] == ids.tolist()
    assert [one["label"] for one in found["neighbours"]] == [NAMES[i] for i in ids]
    np.testing.assert_allclose([one["score"] for one in found["neighbours"]], scores, rtol=1e-6)
    other = client.post("/neighbours", json={"label": NAMES[2], "model": "image"}).json()
    assert other["model"] == "image" and len(other["neighbours"]) == 5


def test_pages_ask_no_other_host(client):
    for address in ("/", "/docs"):
        answer = client.get(address)
        assert answer.headers["content-type"].startswith("text/html")
        assert "connect-src 'self'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text and "https://" not in answer.text


def test_reports_are_linked_and_nothing_else_of_the_run(client, runs):
    folder = runs / "second" / "report"
    folder.mkdir()
    (folder / "report.md").write_text("# Käse")
    models = {m["name"]: m["report"] for m in client.get("/models").json()["models"]}
    assert models["second"] == "/reports/second/report.md" and models["first"] is None
    answer = client.get(models["second"])
    assert answer.text == "# Käse" and answer.headers["content-type"].startswith("text/plain")
    for file in ("other.md", "%2e%2e/config.json", "%00", "/etc/passwd", ""):
        assert client.get(f"/reports/second/{file}").status_code == 404


@pytest.mark.parametrize("leads", ["outside", "file", "circle"])
def test_no_link_of_a_run_leads_a_report_out_of_it(runs, tmp_path, leads):
    """Runs may come from other people, links in them included."""
    run = text_run(tmp_path / "run")
    secret = tmp_path / "report.html"
    secret.write_text("secret")
    report = run / "report"
    if leads == "outside":
        report.symlink_to(tmp_path)
    else:
        report.mkdir()
        (report / "report.html").symlink_to(secret if leads == "file" else "report.html")
    (tmp_path / "link").symlink_to(run)  # a link that the user has made and named is followed
    client, _ = client_of({"foreign": tmp_path / "link"}, LIMITS)
    with client:
        assert client.get("/models").json()["models"][0]["report"] is None
        for file in ("report.html", "secret.txt", str(secret)[1:], "a" * 5000):
            assert client.get(f"/reports/foreign/{file}").status_code == 404
        if leads != "outside":
            (report / "report.md").write_text("own")
            assert client.get("/reports/foreign/report.md").text == "own"


def test_reports_have_an_origin_of_their_own(client, runs):
    report = runs / "first" / "report"
    report.mkdir()
    (report / "report.html").write_text("<script>steal()</script>")
    answer = client.get("/reports/first/report.html")
    policy = answer.headers["content-security-policy"].split("; ")
    assert "sandbox allow-scripts" in policy and "default-src 'none'" in policy
    assert not [rule for rule in policy if "'self'" in rule or "connect" in rule]
    from_the_report = client.post("/predict", json={"texts": ["soup"]}, headers={"Origin": "null"})
    assert from_the_report.status_code == 403
    (report / "report.html").unlink()


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"Host": "evil.example"}, 421, "Host: this server is not known as 'evil.example'"),
        ({"Host": "localhost:8501"}, 200, ""),
        ({"Origin": "https://evil.example"}, 403, "Origin: pages of 'https://evil.example' may"),
        ({"Origin": "http://127.0.0.1"}, 200, ""),
    ],
)
def test_other_sites_cannot_use_the_server(client, headers, status, words):
    for address in ("/models", "/health", "/nowhere"):
        answer = client.get(address, headers=headers)
        assert answer.status_code == (404 if (address, status) == ("/nowhere", 200) else status)
    answer = client.post("/predict", json={"texts": ["soup"]}, headers=headers)
    assert answer.status_code == status and words in answer.json().get("error", "")


def test_health_and_models(client):
    assert client.get("/health").json() == {"status": "ok"}
    models = {m["name"]: m for m in client.get("/models").json()["models"]}
    assert models["image"]["examples"] == ["images"] and models["first"]["max_k"] == 10
    assert models["first"]["num_labels"] == len(NAMES)


def test_a_connection_too_many(served):
    _, application = served
    answer = local_client(application.full).post("/predict", json={"texts": ["soup"]})
    assert answer.status_code == 503 and answer.headers["connection"] == "close"
    assert answer.json()["error"].startswith("connection: 512 connections are in use")
    assert answer.headers["retry-after"] == "1"


def test_openapi_names_every_address(client):
    document = client.get("/openapi.json").json()
    served = {route.path for route in client.app._inner.routes if hasattr(route, "endpoint")}
    assert set(document["paths"]) == served - {
        "/",
        "/docs",
        "/feedback",  # of servers that take it
        "/labels",  # of runs that take labels
        "/openapi.json",
        "/reports/{name}/{file:path}",
    }
    example = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert client.post("/predict", json=example["example"]).status_code == 200


def test_metrics_count(client):
    client.post("/predict", json={"texts": ["soup"]})
    text = client.get("/metrics").text
    assert 'tfxc_requests_total{route="/predict",status="200"}' in text
    assert 'tfxc_model_version{model="first"} 1.0' in text
    assert "tfxc_batch_examples_bucket" in text


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "label: it is missing. Send a text"),
        ({"label": "no such"}, 404, "label: first has no label 'no such'"),
        ({"label": ["soup"]}, 400, 'label: must be a text, not ["soup"]'),
        ({"label": NAMES[0], "k": 0}, 400, "must be an integer from 1 to 10"),
        ({"label": NAMES[0], "model": "third"}, 404, "model: there is no model"),
        (
            {"label": NAMES[0], "texts": ["soup"]},
            400,
            "body: there is no field 'texts'. Use label, k, model",
        ),
        ({"label": NAMES[0], "model": "dense"}, 400, "have no weights of their own"),
    ],
)
def test_neighbours_that_cannot_be(served, monkeypatch, body, status, words):
    client, application = served
    monkeypatch.setattr(application.catalog.slots["dense"].current, "neighbours", False)
    check_refused(client, client.post("/neighbours", json=body), status, words)


DEEP = "[" * 1900 + "]" * 1900
# (what the body is, status, words of the message); the address is /predict.
BAD_BODIES = [
    (b"", 400, 'body: this is not JSON (it is empty). Send for example {"texts": ["..."]}'),
    (b"texts=soup", 400, "this is not JSON"),
    (b'{"texts": ["soup"]', 400, "this is not JSON (EOF while parsing an object"),
    (b'{"texts": ["soup"]} x', 400, "this is not JSON"),
    (b'{"texts": ["\xff"]}', 400, "bytes that are not UTF-8 at line 1 column 13"),
    ('{"texts": ["soup"]}'.encode("utf-16"), 400, "this is not JSON"),
    (b'{"texts": ["a\x00b"]}', 400, "this is not JSON (control character"),
    (b'{"texts": ["soup"], "k": NaN}', 400, "this is not JSON (expected value"),
    (b'{"texts": ["soup"], "k": Infinity}', 400, "this is not JSON (expected value"),
    (b'{"texts": ["soup"], "k": ' + b"9" * 3000 + b"}", 400, "must be an integer from 1 to 10"),
    (f'{{"texts": {DEEP}}}'.encode(), 400, ""),
    (b'{"k": ' + b"9" * 5000 + b"}", 400, "this is not JSON (a number of too many digits)"),
    (b'["soup"]', 400, 'this is not a JSON object but ["soup"]'),
    (b"null", 400, "this is not a JSON object but none"),
    (b'"soup"', 400, 'this is not a JSON object but "soup"'),
    (b'{"texts": ["\\ud800"]}', 400, "hex escape"),
    (b"x" * 7000, 413, "the body has 7,000 bytes. Send at most 6,000"),
    (b'{"texts": ["' + b"soup " * (10 << 18) + b'"]}', 413, "the body has 13,107,215 bytes"),
]
BAD_REQUESTS = [
    ({}, 400, "texts: it is missing. Send a list of at least one example"),
    ({"texts": []}, 400, "texts: must be a list of at least one example, not []"),
    ({"texts": "soup"}, 400, 'texts: must be a list of at least one example, not "soup"'),
    ({"texts": {"a": "b"}}, 400, "must be a list"),
    ({"texts": ["soup", 5]}, 400, "texts[1]: must be a text, not 5"),
    ({"texts": [None]}, 400, "texts[0]: it is missing. Send a text"),
    ({"texts": [["soup"]]}, 400, 'texts[0]: must be a text, not ["soup"]'),
    ({"texts": ["soup"] * 9}, 413, "body: the request has 9 examples"),
    ({"texts": ["soup"], "k": 0}, 400, "k: must be an integer from 1 to 10, not 0"),
    ({"texts": ["soup"], "k": -1}, 400, "k: must be an integer from 1 to 10, not -1"),
    ({"texts": ["soup"], "k": 10**9}, 400, "k: must be an integer from 1 to 10, not 1000000000"),
    ({"texts": ["soup"], "k": 2.5}, 400, "k: must be an integer from 1 to 10, not 2.5"),
    ({"texts": ["soup"], "k": "5"}, 400, 'k: must be an integer from 1 to 10, not "5"'),
    ({"texts": ["soup"], "k": True}, 400, "k: must be an integer from 1 to 10, not true"),
    ({"texts": ["soup"], "model": "third"}, 404, "Use one of first, second, dense, sparse, image"),
    ({"texts": ["soup"], "model": 3}, 400, "model: must be a text, not 3"),
    ({"texts": ["soup"], "models": "first"}, 400, "there is no field 'models'"),
    ({"features": [[1, 2, 3]]}, 400, "texts: it is missing"),
    ({"features": [[1, 2]], "model": "dense"}, 400, "features[0]: it has 2 values instead of 3"),
    ({"features": [[1, 2, "x"]], "model": "dense"}, 400, "features[0]: not all of its values"),
    ({"features": [[1, 2, 1e39]], "model": "dense"}, 400, "features[0]: not all of its values"),
    ({"features": ["1 2 3"], "model": "dense"}, 400, "must be a list of 3 finite numbers"),
    ({"features": [{"6": 1}], "model": "sparse"}, 400, "must be an id from 0 to 5"),
    ({"features": [{"-1": 1}], "model": "sparse"}, 400, "must be an id from 0 to 5"),
    (
        {"features": [{"1": "x"}], "model": "sparse"},
        400,
        'features[0].1: must be a finite number, not "x"',
    ),
    (
        {"features": [[1.0]], "model": "sparse"},
        400,
        "features[0]: must be an object such",
    ),
    ({"images": ["%%%"], "model": "image"}, 400, 'images[0]: must be a file in base64, not "%%%"'),
    ({"images": ["aGFsbG8="], "model": "image"}, 400, "example 1"),
]
BAD_SERVED = [
    ({}, 400, "neither instances nor inputs are given"),
    ({"instances": ["a"], "inputs": ["a"]}, 400, "both instances and inputs are given"),
    ({"instances": []}, 400, "instances: must be a list of at least one example, not []"),
    ({"instances": "soup"}, 400, "must be a list of at least one example"),
    ({"instances": [{"txt": "a"}]}, 400, "must be an object with text"),
    ({"instances": [{"b64": "%"}]}, 400, "base64"),
    ({"instances": [{"b64": "/w=="}]}, 400, "the bytes are not a text in UTF-8"),
    ({"instances": ["a"], "signature_name": "encode"}, 400, "Use one of serving_default"),
    ({"instances": ["a"], "signature_name": 5}, 400, "signature_name: must be a text, not 5"),
    ({"instances": ["a"], "k": 5}, 400, "there is no field 'k'"),
    (
        {"inputs": {"text": "soup"}},
        400,
        "inputs.text: must be a list of at least one value",
    ),
    ({"inputs": {"tokens": [1]}}, 400, "must be an object with text"),
    ({"instances": ["a"] * 9}, 413, "the request has 9 examples"),
    ({"inputs": ["a"] * 9}, 413, "the request has 9 examples"),
]
BAD_ARRAYS = [
    (
        "dense",
        {"instances": [[1, 2]]},
        "instances.features: has rows of 2 values. Send numbers (features",
    ),
    ("dense", {"instances": [[1, 2, 3], [1]]}, "numbers"),
    ("dense", {"instances": [["a", "b", "c"]]}, "numbers"),
    ("dense", {"instances": [["a" * 3000, "b", "c"]]}, "numbers"),
    ("dense", {"instances": [[1, True, 3]]}, "numbers"),
    ("dense", {"instances": [[1, 2, 1e39]]}, "finite numbers"),
    ("dense", {"instances": [[1, 2, 10**400]]}, "finite numbers"),
    ("dense", {"instances": [[[1], [2], [3]]]}, "numbers"),
    ("image", {"instances": [[[[10**12] * 3] * 8] * 8]}, "may be 0 to 255"),
    ("image", {"instances": [[[[1.5] * 3] * 8] * 8]}, "numbers"),
    ("image", {"instances": [[5] * 8]}, "numbers"),
    (
        "sparse",
        {"instances": [{"ids": [1], "weights": [1], "row_splits": [0, 1]}]},
        "Send them by column",
    ),
    ("sparse", {"inputs": {"ids": [1], "weights": [1]}}, "an object with ids, weights, row_splits"),
    (
        "sparse",
        {"inputs": {"ids": [9], "weights": [1], "row_splits": [0, 1]}},
        "the run has 0 to 5",
    ),
    (
        "sparse",
        {"inputs": {"ids": [1, 1], "weights": [1, 1], "row_splits": [0, 2]}},
        "an id is in a row twice",
    ),
    (
        "sparse",
        {"inputs": {"ids": [1], "weights": [1], "row_splits": [0, 2]}},
        "does not rise from 0",
    ),
    ("sparse", {"inputs": {"ids": [0.5], "weights": [1], "row_splits": [0, 1]}}, "numbers"),
    ("image", {"instances": [[[[256] * 3] * 8] * 8]}, "may be 0 to 255"),
    ("image", {"instances": [[[[1] * 3] * 7] * 8]}, "has rows of 7 values"),
]


def check_refused(client, answer, status, words):
    found = answer.json()
    assert answer.status_code == status, found
    assert list(found) == ["error"] and words in found["error"] and "\n" not in found["error"]
    assert len(found["error"]) < 400 and "Traceback" not in found["error"]
    assert client.post("/predict", json={"texts": ["soup"]}).status_code == 200


@pytest.mark.parametrize(("body", "status", "words"), BAD_BODIES)
def test_bad_bodies(client, body, status, words):
    check_refused(client, client.post("/predict", content=body), status, words)


@pytest.mark.parametrize(("body", "status", "words"), BAD_REQUESTS)
def test_bad_requests(client, body, status, words):
    check_refused(client, client.post("/predict", json=body), status, words)


@pytest.mark.parametrize(("body", "status", "words"), BAD_SERVED)
def test_bad_requests_of_tensorflow_serving(client, body, status, words):
    check_refused(client, client.post(f"{SERVED}:predict", json=body), status, words)


@pytest.mark.parametrize(("model", "body", "words"), BAD_ARRAYS)
def test_bad_arrays(client, model, body, words):
    answer = client.post(f"/v1/models/{model}:predict", json=body)
    check_refused(client, answer, 400, words)


@pytest.mark.parametrize(
    ("method", "address", "status", "words"),
    [
        ("GET", "/predict", 405, "GET is not allowed. Use POST"),
        ("DELETE", "/predict", 405, "DELETE is not allowed. Use POST"),
        ("POST", "/health", 405, "GET"),
        ("GET", "/nowhere", 404, "no such address"),
        ("GET", "/v1/models/third", 404, "model: there is no model"),
        ("POST", "/v1/models/third:predict", 404, "model: there is no model"),
        ("GET", "/v1/models/first/versions/2", 404, "first has no version 2, but 1"),
        ("GET", "/v1/models/first/versions/x/metadata", 404, "first has no version x"),
        ("POST", "/v1/models/first:classify", 405, "GET"),
        ("GET", "/reports/first/../../config.json", 404, "no such address"),
        ("GET", "/reports/first/%2e%2e/config.json", 404, "no such address"),
    ],
)
def test_wrong_addresses_and_methods(client, method, address, status, words):
    answer = client.request(method, address, json={"instances": ["a"]})
    check_refused(client, answer, status, words)


@pytest.mark.parametrize("text", ["", " ", "\0", "a\0b", "‮", "😀" * 50, "soup " * 500])
def test_unusual_texts_are_answered(client, runs, text):
    answer = client.post("/predict", json={"texts": [text]})
    assert answer.status_code == 200
    assert_same(pairs_of(answer.json()), expected(runs / "first", texts([text]), 5))
