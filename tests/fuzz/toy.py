"""A fuzzer of nothing: what its input says happens."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator

import numpy as np

from fuzz.child_process import Outcome


class Toy:
    """An input is a word and padding; the executions of a campaign go through `words` in turn."""

    name = "toy"

    def __init__(self, *words: str) -> None:
        self.words, self.loaded = words, 0

    def load(self) -> None:
        self.loaded += 1

    def make(self, random: random.Random) -> bytes:
        return f"{random.choice(self.words)} {random.getrandbits(64):x}".encode()

    def run(self, data: bytes) -> Outcome:
        word = data.decode().split()[0]
        if word == "signal":
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == "spin":
            while True:
                pass
        if word == "sleep":
            time.sleep(100)
        if word == "exit":
            os._exit(3)
        if word == "memory":
            try:
                np.ones(3 << 30, np.uint8)
            except MemoryError:
                return Outcome("memory", "memory")
        if word == "raise":
            raise ValueError("the fuzzer's own fault")
        return Outcome(word, "a finding" if word == "wrong" else "", "details")

    def smaller(self, data: bytes) -> Iterator[bytes]:
        yield b"fine"
        if len(data) > len("wrong "):
            yield data[: len("wrong ")]
