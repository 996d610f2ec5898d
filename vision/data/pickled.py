"""Pickled arrays and plain values, read without calling anything that the file names.

A pickle is a program: it may name any function and call it, and what NumPy itself rebuilds arrays with can be made to
take addresses from the file. Here the few names that arrays need stand for functions of this file, everything else is
refused, and an array is `frombuffer` of bytes that are in the file, as many as its shape says.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np

INTEGERS = frozenset("u1 u2 u4 u8 i1 i2 i4 i8".split())  # of no other kind is an array: least of all of objects
REFUSED = (  # operations: instances of classes, objects from elsewhere
    *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.PERSID, pickle.BINPERSID),
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
)


def load(body: bytes) -> dict:
    """The dict that a pickle holds, its strings of Python 2 as bytes, arrays of integers among its values read-only.

    Raises pickle.UnpicklingError, or what else comes of damaged bytes.
    """
    record = _Unpickler(io.BytesIO(body), encoding="bytes").load()
    if not isinstance(record, dict):
        raise pickle.UnpicklingError(f"this is not a dict: {type(record).__name__}")
    return {key: value.values if isinstance(value, _Array) else value for key, value in record.items()}


class _Dtype:
    """A type of integers, for numpy.dtype."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        self.code, self.order = _word(code), "|"
        if self.code not in INTEGERS:
            raise pickle.UnpicklingError(f"an array of {self.code!r} is none of integers")

    def restore(self, state: tuple) -> None:
        self.order = _word(state[1])
        if self.order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"{self.order!r} is not an order of bytes")

    def array(self, shape: tuple[int, ...], body: bytes, order: str) -> np.ndarray:
        dtype = np.dtype(self.order + self.code)
        if type(body) not in (bytes, bytearray) or math.prod(shape) * dtype.itemsize != len(body):
            raise pickle.UnpicklingError(f"an array of shape {shape} does not have its bytes in the file")
        return np.frombuffer(body, dtype).reshape(shape, order=order)


class _Array:
    """An array, for numpy.ndarray."""

    values: np.ndarray

    def restore(self, state: tuple) -> None:
        _, shape, dtype, fortran, body = state
        self.values = dtype.array(shape, body, "F" if fortran else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(body: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str, *_: object) -> _Array:
    array = _Array()
    array.values = dtype.array(shape, body, _word(order))
    return array


def _encode(text: str, encoding: str) -> bytes:
    """Bytes, as Python 3 writes them for Python 2."""
    if _word(encoding) != "latin1":
        raise pickle.UnpicklingError(f"bytes are not written as {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """An empty string, as Python 3 writes it for Python 2."""
    return b""


def _word(text: str | bytes) -> str:
    return text.decode("ascii") if isinstance(text, bytes) else str(text)


STAND_INS = {
    ("numpy", "ndarray"): None,  # is only named, as an argument of _reconstruct
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


class _Name:
    """What a file has named, and which may be called, if at all, and not changed."""

    __slots__ = ("call",)

    def __init__(self, call: Any) -> None:
        self.call = call


class _Unpickler(pickle._Unpickler):
    """Python's own in Python, because its table of operations can be cut: values, containers, and calls of _Names.

    (That in C also takes memory as the file says, for its memo, where this has a dict.)
    """

    def find_class(self, module: str, name: str) -> _Name:
        if (module, name) not in STAND_INS:
            raise pickle.UnpicklingError(f"a data set has no use for {module}.{name}")
        return _Name(STAND_INS[module, name])

    def call(self) -> None:
        arguments, name = self.stack.pop(), self.stack[-1]
        if not isinstance(name, _Name) or name.call is None:
            raise pickle.UnpicklingError("what is called here is not a function")
        self.stack[-1] = name.call(*arguments)

    def restore(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, _Array | _Dtype):
            raise pickle.UnpicklingError(f"there is nothing to restore in a {type(made).__name__}")
        made.restore(state)

    def bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        body = self.read(length)
        if len(body) != length:  # Python's own takes the memory first
            raise pickle.UnpicklingError(f"{length} bytes are not in the file")
        self.append(body)

    dispatch = {key: load for key, load in pickle._Unpickler.dispatch.items() if bytes([key]) not in REFUSED}
    dispatch |= {pickle.REDUCE[0]: call, pickle.BUILD[0]: restore, pickle.BYTEARRAY8[0]: bytearray8}
