"""The exceptions that users catch, with ONNX Runtime's names, codes and message format. All derive from Exception directly."""

from __future__ import annotations

from typing import ClassVar


class SardonyxError(Exception):
    """The base of errors with a code; `str()` reads `[ONNXRuntimeError] : <code> : <NAME> : <detail>`."""

    code: ClassVar[int] = 1
    label: ClassVar[str] = "FAIL"
    defect = False  # True if it wraps an unforeseen exception: a bug in this package, whatever the model is

    def __init__(self, detail: str) -> None:
        super().__init__(f"[ONNXRuntimeError] : {self.code} : {self.label} : {detail}")
        self.detail = detail

    def __reduce__(self) -> tuple[type[SardonyxError], tuple[str]]:
        return type(self), (self.detail,)


class Fail(SardonyxError):
    code, label = 1, "FAIL"


class InvalidArgument(SardonyxError):
    code, label = 2, "INVALID_ARGUMENT"


class NoSuchFile(SardonyxError):
    code, label = 3, "NO_SUCHFILE"


class NoModel(SardonyxError):
    code, label = 4, "NO_MODEL"


class EngineError(SardonyxError):
    code, label = 5, "ENGINE_ERROR"


class RuntimeException(SardonyxError):
    code, label = 6, "RUNTIME_EXCEPTION"


class InvalidProtobuf(SardonyxError):
    code, label = 7, "INVALID_PROTOBUF"


class ModelLoaded(SardonyxError):
    code, label = 8, "MODEL_LOADED"


class NotImplemented(SardonyxError):
    code, label = 9, "NOT_IMPLEMENTED"


class InvalidGraph(SardonyxError):
    code, label = 10, "INVALID_GRAPH"


class EPFail(SardonyxError):
    code, label = 11, "EP_FAIL"


class ModelLoadCanceled(SardonyxError):
    code, label = 12, "MODEL_LOAD_CANCELED"


class ModelRequiresCompilation(SardonyxError):
    code, label = 13, "MODEL_REQUIRES_COMPILATION"


class NotFound(SardonyxError):
    code, label = 14, "NOT_FOUND"


class NamesDiffer(Exception):
    """Two axes of one name in the model have different sizes in a run of a program that assumes them equal.

    It never reaches a user: the session compiles another program for such a run.
    """


class Unsupported(Exception):
    """The compiler can't express something (an operator, a dtype, a form of one). The message names it.

    Raised while a graph is lowered; the node then goes to the next provider. It reaches a user only if every provider has
    refused.
    """


def blame(error: Exception, title: str) -> None:
    """Note the node that was being processed when an exception arose, unless an inner node has been noted already."""
    if not isinstance(error, SardonyxError | Unsupported) and not getattr(error, "__notes__", None):
        error.add_note(title)


class FromHandler(Exception):
    """Carries an exception that a user's signal handler raised during a run. It never reaches a user."""

    def __init__(self, raised: Exception) -> None:
        super().__init__(str(raised))
        self.raised = raised


def documented(error: Exception) -> SardonyxError:
    """Return the exception to raise to users: the error itself if it is documented, else a Fail that wraps it.

    This is the only place that makes such a Fail. It is marked as a `defect`, so that fuzzers report it like the original
    exception; running out of memory is no defect.
    """
    if isinstance(error, SardonyxError):
        return error
    if isinstance(error, Unsupported):
        return NotImplemented(str(error))
    where = "".join(f"{note}: " for note in getattr(error, "__notes__", ())[:1])
    reason = (str(error).strip() or "no message").splitlines()[0]
    out = Fail(f"{where}{type(error).__name__}: {reason}")
    out.defect = not isinstance(error, MemoryError)
    return out


def running(title: str, reason: str) -> str:
    """Return the message of an error in a run. title: an operator and a node, `Add node 'n'`."""
    return f"Non-zero status code returned while running {title}: {reason}"
