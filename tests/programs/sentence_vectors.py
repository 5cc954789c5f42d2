"""sentence-transformers with its onnx backend, on a model that is exported here."""

import json
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
from sentence_transformers import SentenceTransformer, models  # noqa: E402
from small_models import write  # noqa: E402

folder = write(Path(sys.argv[1]) / "bert", "bert")
words = models.Transformer(str(folder))
SentenceTransformer(modules=[words, models.Pooling(words.get_word_embedding_dimension())]).save(str(folder.parent / "sentences"))
model = SentenceTransformer(str(folder.parent / "sentences"), backend="onnx", model_kwargs={"provider": "CPUExecutionProvider"})
vectors = model.encode(["the big cat sleeps", "a small dog runs under the house", "the cat and the dog"])
print(json.dumps([vectors[:, :8].tolist(), model.similarity(vectors, vectors).tolist()]))
