"""The text in a picture that is drawn here, by rapidocr-onnxruntime."""

import json

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rapidocr_onnxruntime import RapidOCR

picture = Image.new("RGB", (480, 200), "white")
draw = ImageDraw.Draw(picture)
draw.text((20, 30), "Hello World 2026", fill="black", font=ImageFont.load_default(44))
draw.text((20, 120), "second line", fill="blue", font=ImageFont.load_default(36))
found, _ = RapidOCR()(np.array(picture))
print(json.dumps([[text, score] for _, text, score in found]))
