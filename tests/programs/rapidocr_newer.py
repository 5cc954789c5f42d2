"""The text in a picture that is drawn here, by rapidocr."""

import json
import logging

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rapidocr import RapidOCR

logging.disable()
picture = Image.new("RGB", (480, 120), "white")
ImageDraw.Draw(picture).text((20, 30), "Hello World 2026", fill="black", font=ImageFont.load_default(44))
found = RapidOCR()(np.array(picture))
print(json.dumps([list(found.txts), list(map(float, found.scores))]))
