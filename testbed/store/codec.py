"""Bytes of a blob and back: tensors as safetensors, rows as parquet, the rest as canonical JSON. Never a pickle.

The same arrays give the same bytes: safetensors orders tensors by dtype and name, parquet is written with fixed options
as one file. Reading safetensors is done here, over the very buffer whose hash was checked: a file that is mapped could
change between the check and the touch of a page. Nobody can alter the store through the arrays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any, Final

import numpy as np

from testbed.digest import canonical
from testbed.types import Array

_DTYPES: Final[Mapping[str, str]] = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip


def tensors_to_bytes(arrays: Mapping[str, Array]) -> bytes:
    """Arrays by name as one safetensors file; floats, integers and booleans of any shape.

    >>> data = tensors_to_bytes({"x": np.arange(3), "flag": np.array(True)})
    >>> {name: a.tolist() for name, a in sorted(tensors_from_buffer(bytearray(data)).items())}
    {'flag': True, 'x': [0, 1, 2]}
    """
    from safetensors.numpy import save

    for name, array in arrays.items():
        if np.dtype(array.dtype).kind not in "buif":
            raise TypeError(f"tensor {name!r} has dtype {array.dtype}; expected a boolean, integer or float array")
    return bytes(save({name: np.asarray(array, order="C") for name, array in arrays.items()}))


def tensors_from_buffer(buffer: bytearray) -> dict[str, Array]:
    """Arrays over the buffer of a safetensors file, without copying; writable where the buffer is."""
    length = int.from_bytes(buffer[:8], "little")
    header = json.loads(bytes(buffer[8 : 8 + length]))
    header.pop("__metadata__", None)
    return {name: _array(buffer, 8 + length, info) for name, info in header.items()}


def _array(buffer: bytearray, start: int, info: Mapping[str, Any]) -> Array:
    dtype, shape = np.dtype(_DTYPES[info["dtype"]]), tuple(info["shape"])
    if prod(shape) == 0:
        return np.empty(shape, dtype)
    return np.frombuffer(buffer, dtype, prod(shape), start + info["data_offsets"][0]).reshape(shape)


def table_to_bytes(table: Any) -> memoryview:
    """A pyarrow table as one parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", version="2.6")
    return memoryview(sink.getvalue())


def table_from(data: bytes | bytearray) -> Any:
    """The pyarrow table in the bytes of a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(pa.BufferReader(data)) as file:
        return file.read()


def json_to_bytes(value: Any) -> bytes:
    """A plain value (mappings, sequences, strings, finite numbers, booleans, None) as canonical JSON."""
    return canonical(value).encode()


def json_from_bytes(data: bytes | bytearray) -> Any:
    """The value in these bytes."""
    return json.loads(data)
