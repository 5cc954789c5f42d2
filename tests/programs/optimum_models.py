"""Optimum's ORTModel classes and a pipeline on models that are exported here; with and without IOBinding."""

import json
import sys
import warnings
from pathlib import Path

from small_models import write

warnings.simplefilter("ignore")
from optimum.onnxruntime import ORTModelForCausalLM, ORTModelForFeatureExtraction, ORTModelForSequenceClassification  # noqa: E402
from transformers import AutoTokenizer, pipeline  # noqa: E402

folder, results = Path(sys.argv[1]), []
TEXTS = ["the big cat sleeps under the house", "a dog runs"]

classes = write(folder / "classifier", "classifier")
words = AutoTokenizer.from_pretrained(classes)
model = ORTModelForSequenceClassification.from_pretrained(classes, export=True)
results.append(model(**words(TEXTS, padding=True, return_tensors="pt")).logits.tolist())
results += [[one["label"], one["score"]] for one in pipeline("text-classification", model=model, tokenizer=words)(TEXTS)]

plain = write(folder / "bert", "bert")
for bound in (False, True):
    model = ORTModelForFeatureExtraction.from_pretrained(plain, export=True, use_io_binding=bound)
    results.append(model(**words(TEXTS, padding=True, return_tensors="pt")).last_hidden_state[0, 0, :8].tolist())

causal = write(folder / "gpt2", "gpt2")
for bound in (False, True):
    model = ORTModelForCausalLM.from_pretrained(causal, export=True, use_io_binding=bound)
    made = model.generate(**words("the cat", return_tensors="pt", return_token_type_ids=False), max_new_tokens=12, do_sample=False)
    results.append(made[0].tolist())
print(json.dumps(results))
