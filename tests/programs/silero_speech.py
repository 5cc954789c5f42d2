"""Where somebody speaks, by silero-vad: a tone of a voice's pitch from the first second to the second."""

import json

import numpy as np
import torch
from silero_vad import get_speech_timestamps, load_silero_vad

model = load_silero_vad(onnx=True)
t = np.arange(16000 * 3) / 16000
voice = np.sin(2 * np.pi * 150 * t) * (1 + np.sin(2 * np.pi * 4 * t)) * (0.3 * ((t > 1) & (t < 2)))
sound = torch.from_numpy((voice + 0.001 * np.random.default_rng(0).standard_normal(t.size)).astype(np.float32))
spans = get_speech_timestamps(sound, model)
chunks = [float(model(sound[i : i + 512], 16000)) for i in range(16000, 21120, 512)]
print(json.dumps([[[span["start"], span["end"]] for span in spans], chunks]))
