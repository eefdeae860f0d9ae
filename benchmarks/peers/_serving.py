"""What the servers share: the path, the request and the answer of ``tfxc serve``, by FastAPI."""

from pydantic import BaseModel


class Query(BaseModel):
    """The body of a request."""

    texts: list[str]
    k: int = 5


def serve(answer, port):
    """Answers on 127.0.0.1, in one process.

    Args:
        answer: (texts, k) -> names of labels, and best ids and scores, both (texts, k).
        port: of the address.
    """
    import fastapi
    import uvicorn

    app = fastapi.FastAPI()

    # In the event loop: handing it to a thread costs more time than an answer takes.
    @app.post("/predict")
    async def predict(query: Query):
        names, ids, scores = answer(query.texts, query.k)
        rows = zip(ids.tolist(), scores.tolist(), strict=True)
        predictions = [
            [{"label": names[i], "score": s} for i, s in zip(*row, strict=True)] for row in rows
        ]
        return {"predictions": predictions}

    print("serving", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
