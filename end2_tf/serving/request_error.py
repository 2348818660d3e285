"""What a server answers instead of a prediction: one exception, with the code that REST and gRPC each have for it."""

from __future__ import annotations

import enum

from end2_tf.errors import plain


class Code(enum.Enum):
    """gRPC's name of a code, with the HTTP status that TensorFlow Serving gives it."""

    INVALID_ARGUMENT = 400
    NOT_FOUND = 404
    RESOURCE_EXHAUSTED = 413
    INTERNAL = 500
    UNIMPLEMENTED = 501
    UNAVAILABLE = 503
    DEADLINE_EXCEEDED = 504


class RequestError(Exception):
    """A request can't be answered; its text is meant for whoever sent it."""

    def __init__(self, code: Code, message: str):
        super().__init__(plain(message, 1_000))
        self.code = code


def invalid(message: str) -> RequestError:
    """Returns the refusal of a request that is wrong in itself."""
    return RequestError(Code.INVALID_ARGUMENT, message)
