"""OrtValue: a tensor, sequence, map or sparse tensor, as sessions take and return them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.base import dtypes
from sardonyx.base.errors import Fail
from sardonyx.runtime.arrays import Array, address_of
from sardonyx.runtime.device import Buffer, Device, Tensor, transfer

if TYPE_CHECKING:
    from sardonyx.session.devices import OrtMemoryInfo
    from sardonyx.session.sparse import SparseTensor

_NOT_ARRAY = "Creation of OrtValues is currently only supported from numpy arrays"
_ELSEWHERE = (
    "Can't allocate memory on the device using this package of OnnxRuntime. Please use the appropriate package of OnnxRuntime for your "
    "hardware to use this feature."
)


class OrtValue:
    """A value that sessions read and write without copying it.

    Inside, a tensor is a numpy array, C-contiguous and in native byte order, or a Buffer in a device's memory; a sequence is a list of arrays or dicts; a map
    is a dict.
    """

    __slots__ = ("__weakref__", "_kind", "_value")

    def __init__(self, ortvalue: OrtValue) -> None:
        """Share the memory of another OrtValue. Raises ValueError for any other object."""
        if not isinstance(ortvalue, OrtValue):
            raise ValueError("`Provided ortvalue` needs to be of type `OrtValue`")
        self._value: Any = ortvalue._value
        self._kind: str = ortvalue._kind

    @classmethod
    def _of(cls, value: Any, kind: str = "") -> OrtValue:
        """Wrap a value in the form that executables use. kind: its type as users see it; "" to derive it from the value."""
        made = cls.__new__(cls)
        made._value, made._kind = value, kind
        return made

    # ---- making -------------------------------------------------------------------------------------------------------------

    @classmethod
    def ortvalue_from_numpy(
        cls, numpy_obj: Array, /, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """Return a tensor that shares the array's memory, or a copy in the memory of another device than the CPU. Arrays of
        strings, and arrays that aren't contiguous, are copied.

        Raises RuntimeError unless numpy_obj is an array, for a device that isn't there, and if it has no memory left.
        """
        device = device_named(device_type, device_id, vendor_id)
        if not isinstance(numpy_obj, np.ndarray):
            raise RuntimeError(_NOT_ARRAY)
        array = prepared(numpy_obj)
        return cls._of(array if device is None else on_device(device, array.shape, array.dtype, array))

    @classmethod
    def ortvalue_from_numpy_with_onnx_type(cls, data: Array, /, onnx_element_type: int) -> OrtValue:
        """Return a tensor that shares the array's memory but reads its elements as another type of the same width, such as
        bfloat16 in an array of uint16.

        onnx_element_type: a number of TensorProto.DataType. Raises RuntimeError for an unknown type or one of another width.
        """
        dtype = element_dtype(onnx_element_type)
        if dtype is dtypes.string or data.dtype.itemsize != dtype.itemsize:
            raise RuntimeError(f"Items size in the incoming array: {data.dtype.itemsize} specified by onnxtype: {dtype.itemsize}")
        return cls._of(prepared(data).view(dtype.numpy))

    @classmethod
    def ortvalue_from_shape_and_type(
        cls,
        shape: Sequence[int],
        element_type: Any,
        device_type: str = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
        memory_info: OrtMemoryInfo | None = None,
    ) -> OrtValue:
        """Return a tensor of this shape with undefined contents.

        element_type: a numpy type, or a number of TensorProto.DataType. Raises RuntimeError for an unsupported type or a
        negative size, for a device that isn't there, and if there is no memory.
        """
        if memory_info is not None:
            if (device_type, device_id, vendor_id) != ("cpu", 0, -1):
                text = "device_type, device_id, and vendor_id are ignored when memory_info is provided."
                warnings.warn(text, stacklevel=2)
            device_type = "cpu" if memory_info.name == "Cpu" else "gpu"
        device = device_named(device_type, device_id, vendor_id)
        dtype = element_dtype(element_type)
        if dtype is dtypes.string:
            raise RuntimeError("Creation of OrtValues is currently only supported from non-string numpy arrays")
        sizes = [int(size) for size in shape]
        if any(size < 0 for size in sizes):
            raise RuntimeError(f"Tensor shape.Size() must be >= 0, not that of {sizes}")
        if device is not None:
            return cls._of(on_device(device, sizes, dtype.numpy))
        try:
            return cls._of(np.empty(sizes, dtype.numpy))
        except (MemoryError, ValueError) as error:
            raise RuntimeError(f"no memory for a tensor of shape {sizes}: {error}") from error

    @classmethod
    def ort_value_from_sparse_tensor(cls, sparse_tensor: SparseTensor) -> OrtValue:
        """Wrap a sparse tensor."""
        return cls._of(sparse_tensor, sparse_tensor.data_type())

    @classmethod
    def from_dlpack(cls, data: Any, /) -> OrtValue:
        """Return a tensor that shares the memory of an object with `__dlpack__`, or of a DLPack capsule.

        Raises TypeError for an object that is no capsule or has been consumed, RuntimeError for memory of another device,
        unsupported types, and tensors that aren't contiguous.
        """
        from sardonyx.runtime import dlpack

        return cls._of(dlpack.take(data.__dlpack__() if hasattr(data, "__dlpack__") else data))

    # ---- asking -------------------------------------------------------------------------------------------------------------

    def data_type(self) -> str:
        """Return the type, such as `tensor(float)`, `seq(tensor(int64))` or `map(int64,tensor(float))`."""
        if not self._kind:
            self._kind = kind_of(self._value)
        return self._kind

    def element_type(self) -> int:
        """Return the number in TensorProto.DataType of the elements of a tensor, or of the tensors in a sequence."""
        inner = self.data_type().rsplit("(", 1)[-1].rstrip(")")
        return next(d.code for d in dtypes.ALL if d.onnx_name == inner)

    def shape(self) -> list[int]:
        """Return a tensor's shape. Raises RuntimeError for other values."""
        if self.is_sparse_tensor():
            return self._value.dense_shape()  # type: ignore[no-any-return]
        return list(self._dense("Only OrtValues that are Tensors/SpareTensors are currently supported").shape)

    def device_name(self) -> str:
        """Return the name of the device that holds the tensor, such as `cpu`. Raises RuntimeError for other values."""
        if self.is_sparse_tensor():
            return "cpu"
        found = self._dense("Only OrtValues that are Tensors/SparseTensors are currently supported")
        return found.device.name if isinstance(found, Buffer) else "cpu"

    def data_ptr(self) -> int:
        """Return the address of a tensor's first element. Raises RuntimeError for other values, and on a device that tells no
        addresses.
        """
        found = self._dense("Only OrtValues that are Tensors are currently supported")
        return found.device.address(found.memory) if isinstance(found, Buffer) else address_of(found)

    def tensor_size_in_bytes(self) -> int:
        """Return the size of a tensor's data in bytes. Raises RuntimeError for other values."""
        return int(self._dense("Only OrtValues that are Tensors are currently supported").nbytes)

    def has_value(self) -> bool:
        """Is there a value? False for an empty optional."""
        return self._value is not None

    def is_tensor(self) -> bool:
        """Is it a dense tensor?"""
        return isinstance(self._value, np.ndarray | Buffer)

    def is_sparse_tensor(self) -> bool:
        """Is it a sparse tensor?"""
        return self._kind.startswith("sparse_tensor(")

    def is_tensor_sequence(self) -> bool:
        """Is it a sequence of tensors?"""
        return self.data_type().removeprefix("optional(").startswith("seq(tensor(")

    def as_sparse_tensor(self) -> SparseTensor:
        """Return the sparse tensor. Raises RuntimeError for other values."""
        if not self.is_sparse_tensor():
            raise RuntimeError("This OrtValue does not contain SparseTensor. Check data_type() value.")
        return self._value  # type: ignore[no-any-return]

    def numpy(self) -> Array:
        """Return the tensor as an array that shares its memory, or a copy if another device than the CPU has it. Raises
        RuntimeError for other values.
        """
        found = self._dense("Only OrtValues that are Tensors are convertible to Numpy objects")
        return found.numpy() if isinstance(found, Buffer) else found.view()

    to_numpy = numpy

    def _dense(self, otherwise: str) -> Tensor:
        value = self._value
        if not isinstance(value, np.ndarray | Buffer):
            raise RuntimeError(otherwise)
        return value

    def _array(self, otherwise: str) -> Array:
        value = self._dense(otherwise)
        return value.numpy() if isinstance(value, Buffer) else value

    def _shared(self) -> Array:
        """Return the array that DLPack shares."""
        if isinstance(self._value, Buffer):
            raise RuntimeError(f"{self._value.device} shares no memory by DLPack; `numpy()` copies the tensor.")
        return self._array("Only tensor type OrtValues are supported")

    # ---- exchanging ---------------------------------------------------------------------------------------------------------

    def update_inplace(self, data: Array | OrtValue) -> None:
        """Copy data into the tensor, whose memory stays the same.

        data: an array or OrtValue with the same dtype and number of elements. Raises TypeError for other objects,
        RuntimeError if dtype or number of elements differ, or if the tensor's memory is read-only.
        """
        if not isinstance(data, np.ndarray | OrtValue):
            raise TypeError("data must be a numpy.ndarray or an OrtValue.")
        target = self._dense("Only OrtValues that are Tensors are currently supported")
        source = data._dense("Only OrtValues that are Tensors are currently supported") if isinstance(data, OrtValue) else data
        if kind_of(source) != kind_of(target):
            raise RuntimeError(
                f"The source and destination OrtValues must have the same data type: {kind_of(source)}, {kind_of(target)}"
            )
        if source.size != target.size:
            if isinstance(data, OrtValue):
                raise RuntimeError("The source and destination OrtValues must have the same size")
            raise RuntimeError("The input size of numpy arrays does not match the size of the OrtValue.")
        if isinstance(target, np.ndarray):
            if not target.flags.writeable:
                raise RuntimeError("The OrtValue's memory is read-only.")
            if isinstance(source, np.ndarray):
                source = source.reshape(target.shape)
        transfer(source, target)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return the tensor for numpy.asarray and numpy.array."""
        found = self.numpy()
        if copy is not None:
            return np.array(found, dtype, copy=copy)
        return found if dtype is None else np.asarray(found, dtype)

    def __dlpack__(self, *, stream: Any = None) -> Any:
        """Return a DLPack capsule that shares the tensor's memory. Raises RuntimeError for a value that is no tensor of numbers,
        and for read-only memory.
        """
        from sardonyx.runtime import dlpack

        return dlpack.export(self._shared())

    def to_dlpack(self) -> Any:
        """Return a DLPack capsule, see `__dlpack__`."""
        return self.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return (1, 0), the CPU. Raises RuntimeError for a value that is no tensor."""
        self._shared()
        return 1, 0

    @property
    def _ortvalue(self) -> OrtValue:
        return self

    def _get_c_value(self) -> OrtValue:
        return self


class OrtValueVector:
    """A list of OrtValues."""

    def __init__(self, values: Sequence[OrtValue] = ()) -> None:
        self._values = list(values)

    def push_back(self, value: OrtValue) -> None:
        """Append a value."""
        self._values.append(value)

    def reserve(self, count: int) -> None:
        """Do nothing: lists grow by themselves."""

    def shrink_to_fit(self) -> None:
        """Do nothing."""

    def dlpack_at(self, index: int) -> Any:
        """Return a DLPack capsule of the value at this index."""
        return self._values[index].__dlpack__()

    def element_type_at(self, index: int) -> int:
        """Return the element type of the value at this index, see OrtValue.element_type."""
        return self._values[index].element_type()

    def to_dlpacks(self, convert: Any = None) -> list[Any]:
        """Return a DLPack capsule for each value, converted by the function if one is given."""
        capsules = [value.__dlpack__() for value in self._values]
        return [convert(capsule) for capsule in capsules] if convert is not None else capsules

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[OrtValue]:
        return iter(self._values)

    def __getitem__(self, index: int) -> OrtValue:
        return self._values[index]


def copy_tensors(src: Sequence[OrtValue], dst: Sequence[OrtValue], stream: Any = None) -> None:
    """Copy each tensor of src into the one at the same index of dst. Raises RuntimeError if their numbers, types or sizes
    differ.
    """
    if len(src) != len(dst):
        raise RuntimeError("Invalid arguments provided to CopyTensors.")
    for source, target in zip(src, dst, strict=True):
        target.update_inplace(source)


def device_named(device_type: str, device_id: int = 0, vendor_id: int = -1) -> Device | None:
    """Return the device of this name; None for the CPU. Raises Exception for an unknown name, RuntimeError if the device isn't
    there.
    """
    if device_type == "cpu":
        return None
    from sardonyx.session import devices

    found = devices.device_named(device_type, device_id)
    if found is None:
        devices.OrtDevice.make(device_type, device_id, vendor_id)
        raise RuntimeError(_ELSEWHERE)
    return found


def on_device(device: Device, shape: Sequence[int], dtype: np.dtype[Any], array: Array | None = None) -> Buffer:
    """Allocate a tensor on a device, and copy the array to it if there is one. Raises RuntimeError for strings and if there is no
    memory.
    """
    try:
        return Buffer(device, shape, dtype) if array is None else Buffer.of(device, array)
    except MemoryError as error:
        raise RuntimeError(f"no memory on {device} for a tensor of shape {list(shape)}: {error}") from error
    except Fail as error:
        raise RuntimeError(error.detail) from error


def prepared(array: Array) -> Array:
    """Return the array as sessions take it: itself if it is contiguous, aligned and in native byte order, else a copy.

    Raises RuntimeError for a dtype that ONNX lacks.
    """
    if array.dtype.kind in "OUS":
        out = np.empty(array.shape, object)
        out.reshape(-1)[:] = [x.decode() if isinstance(x, bytes) else str(x) for x in array.reshape(-1).tolist()]
        return out
    array = np.asarray(array)
    try:
        dtype = dtypes.from_numpy(array.dtype.newbyteorder("="))
    except TypeError as error:
        raise RuntimeError(f"Numpy_type {array.dtype} can't be converted to MLDataType.") from error
    return np.require(array, dtype.numpy, ["C", "ALIGNED"])


def element_dtype(element_type: Any) -> dtypes.DType:
    """Return the dtype for a numpy type or a number of TensorProto.DataType. Raises RuntimeError for other arguments."""
    if isinstance(element_type, int):
        if element_type not in dtypes.BY_CODE:
            raise RuntimeError(f"Not a valid ONNX Tensor data type: {element_type}: this tensor type is not supported")
        return dtypes.BY_CODE[element_type]
    try:
        return dtypes.from_numpy(np.dtype(element_type))
    except TypeError as error:
        raise RuntimeError(f"Numpy_type {element_type} can't be converted to MLDataType.") from error


def kind_of(value: Any) -> str:
    """Return a value's type as users see it; "" for None, and seq() for an empty list. Raises Fail for an object that is no ONNX
    value.
    """
    if value is None:
        return ""
    if isinstance(value, np.ndarray | Buffer):
        return f"tensor({dtypes.from_numpy(value.dtype).onnx_name})"
    if isinstance(value, list):
        return f"seq({kind_of(value[0]) if value else ''})"
    if isinstance(value, dict):
        key, element = next(iter(value.items()), (0, 0.0))
        inner = {str: "string", int: "int64", float: "float"}
        return f"map({inner.get(type(key), 'int64')},tensor({inner.get(type(element), 'float')}))"
    raise Fail(f"no ONNX value is a {type(value).__name__}")
