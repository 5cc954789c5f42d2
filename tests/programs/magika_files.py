"""What kinds of files bytes are, by magika."""

import json

from magika import Magika

BYTES = [
    b"# Title\n\nSome *markdown* text with a list:\n- a\n- b\n",
    b"function f(x) { return x + 1; }\nconsole.log(f(2));\n",
    b"import os\n\ndef main():\n    print(os.getcwd())\n",
    b"\x89PNG\r\n\x1a\n" + bytes(200),
]
found = [Magika().identify_bytes(data) for data in BYTES]
print(json.dumps([[result.output.label, float(result.score)] for result in found]))
