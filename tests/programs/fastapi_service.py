"""A web service with a model, asked by many clients at once over a socket."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI
from onnxruntime.datasets import get_example
from pydantic import BaseModel

application = FastAPI()
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(get_example("logreg_iris.onnx"), options, providers=["CPUExecutionProvider"])


class Flowers(BaseModel):
    """Three flowers."""

    rows: list[list[float]]


@application.post("/classify")
def classify(flowers: Flowers) -> dict[str, list]:
    """Their labels and odds."""
    labels, odds = session.run(None, {"float_input": np.array(flowers.rows, np.float32)})
    return {"labels": labels.tolist(), "odds": [list(row.values()) for row in odds]}


server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error"))
thread = threading.Thread(target=server.run, daemon=True)
thread.start()
while not server.started:
    thread.join(0.01)
port = server.servers[0].sockets[0].getsockname()[1]
rows = np.random.default_rng(0).random((200, 3, 2)).round(3)
with (
    httpx.Client(base_url=f"http://127.0.0.1:{port}", limits=httpx.Limits(max_connections=16)) as client,
    ThreadPoolExecutor(16) as pool,
):
    answers = list(pool.map(lambda row: client.post("/classify", json={"rows": row.tolist()}).raise_for_status().json(), rows))
server.should_exit = True
thread.join()
print(json.dumps([[answer["labels"], answer["odds"]] for answer in answers]))
