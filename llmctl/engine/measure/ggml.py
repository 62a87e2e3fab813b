"""llama.cpp's own tensor library, ggml, through ctypes. Only to be loaded in a child process.

The functions are those of llama.cpp's public ggml.h, ggml-alloc.h and ggml-backend.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from ctypes import POINTER, byref, c_bool, c_char_p, c_float, c_int, c_int64, c_size_t, c_uint8, c_void_p
from typing import Any

DEVICE_KINDS = ("cpu", "gpu", "igpu", "accel", "meta")  # enum ggml_backend_dev_type


class InitParams(ctypes.Structure):
    """struct ggml_init_params"""

    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


class DeviceProps(ctypes.Structure):
    """struct ggml_backend_dev_props, with room for capabilities that later versions may add"""

    _fields_ = (
        ("name", c_char_p),
        ("description", c_char_p),
        ("memory_free", c_size_t),
        ("memory_total", c_size_t),
        ("type", c_int),
        ("device_id", c_char_p),
        ("caps", c_bool * 64),
    )


class Feature(ctypes.Structure):
    """struct ggml_backend_feature"""

    _fields_ = (("name", c_char_p), ("value", c_char_p))


SIGNATURES: dict[str, tuple[Any, Sequence[Any]]] = {
    "ggml_version": (c_char_p, ()),
    "ggml_commit": (c_char_p, ()),
    "ggml_init": (c_void_p, (InitParams,)),
    "ggml_free": (None, (c_void_p,)),
    "ggml_new_tensor_2d": (c_void_p, (c_void_p, c_int, c_int64, c_int64)),
    "ggml_new_tensor_3d": (c_void_p, (c_void_p, c_int, c_int64, c_int64, c_int64)),
    "ggml_nbytes": (c_size_t, (c_void_p,)),
    "ggml_permute": (c_void_p, (c_void_p, c_void_p, c_int, c_int, c_int, c_int)),
    "ggml_add": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "ggml_mul_mat": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "ggml_mul_mat_id": (c_void_p, (c_void_p, c_void_p, c_void_p, c_void_p)),
    "ggml_soft_max_ext": (c_void_p, (c_void_p, c_void_p, c_void_p, c_float, c_float)),
    "ggml_flash_attn_ext": (c_void_p, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_float, c_float, c_float)),
    "ggml_new_graph": (c_void_p, (c_void_p,)),
    "ggml_build_forward_expand": (None, (c_void_p, c_void_p)),
    "ggml_backend_reg_count": (c_size_t, ()),
    "ggml_backend_reg_get": (c_void_p, (c_size_t,)),
    "ggml_backend_reg_name": (c_char_p, (c_void_p,)),
    "ggml_backend_reg_get_proc_address": (c_void_p, (c_void_p, c_char_p)),
    "ggml_backend_dev_count": (c_size_t, ()),
    "ggml_backend_dev_get": (c_void_p, (c_size_t,)),
    "ggml_backend_dev_by_type": (c_void_p, (c_int,)),
    "ggml_backend_dev_backend_reg": (c_void_p, (c_void_p,)),
    "ggml_backend_dev_get_props": (None, (c_void_p, POINTER(DeviceProps))),
    "ggml_backend_dev_init": (c_void_p, (c_void_p, c_char_p)),
    "ggml_backend_dev_buffer_type": (c_void_p, (c_void_p,)),
    "ggml_backend_dev_supports_op": (c_bool, (c_void_p, c_void_p)),
    "ggml_backend_buft_alloc_buffer": (c_void_p, (c_void_p, c_size_t)),
    "ggml_backend_buft_get_alloc_size": (c_size_t, (c_void_p, c_void_p)),
    "ggml_backend_buft_get_alignment": (c_size_t, (c_void_p,)),
    "ggml_backend_buffer_get_base": (c_void_p, (c_void_p,)),
    "ggml_backend_buffer_clear": (None, (c_void_p, c_uint8)),
    "ggml_backend_buffer_free": (None, (c_void_p,)),
    "ggml_backend_tensor_alloc": (c_int, (c_void_p, c_void_p, c_void_p)),
    "ggml_backend_tensor_set": (None, (c_void_p, c_void_p, c_size_t, c_size_t)),
    "ggml_backend_graph_compute": (c_int, (c_void_p, c_void_p)),
}


class Ggml:
    """The functions of SIGNATURES as attributes, without ``ggml_``, and what can be learnt with several of them."""

    def __init__(self) -> None:
        """Raises ImportError, OSError, RuntimeError or AttributeError if the engine can't be loaded or is too old."""
        from llama_cpp import llama_cpp as binding

        library: Any = binding._lib  # a handle finds the symbols of the libraries that it was linked with, too
        for name, (result, arguments) in SIGNATURES.items():
            function = library[name]  # by index: a function object of our own, the binding's keeps its types
            function.restype, function.argtypes = result, arguments
            setattr(self, name.removeprefix("ggml_"), function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"ggml has no {name}")

    def build(self) -> str:
        """The version and commit of this build: "ggml 0.25.3 d25f87b"."""
        return f"ggml {self.version().decode()} {self.commit().decode()}"

    def backends(self) -> list[str]:
        regs = (self.backend_reg_get(index) for index in range(self.backend_reg_count()))
        return [self.backend_reg_name(reg).decode() for reg in regs]

    def devices(self) -> Iterator[tuple[str, DeviceProps]]:
        """Backend name and properties of every device."""
        for index in range(self.backend_dev_count()):
            device = self.backend_dev_get(index)
            props = DeviceProps()
            self.backend_dev_get_props(device, byref(props))
            yield self.backend_reg_name(self.backend_dev_backend_reg(device)).decode(), props

    def device_named(self, name: str) -> Any:
        """The device of that name in ``devices``. Raises LookupError."""
        for index, (_, props) in enumerate(self.devices()):
            if props.name.decode("utf-8", "replace") == name:
                return self.backend_dev_get(index)
        raise LookupError(f"ggml lists no device named {name}")

    def cpu(self) -> Any:
        """The CPU device."""
        return self.backend_dev_by_type(DEVICE_KINDS.index("cpu"))

    def features(self) -> list[str]:
        """Instruction sets and options of the CPU backend, as the system info line of llama.cpp has them."""
        reg = self.backend_dev_backend_reg(self.cpu())
        address = self.backend_reg_get_proc_address(reg, b"ggml_backend_get_features")
        if not address:
            return []
        feature = ctypes.CFUNCTYPE(POINTER(Feature), c_void_p)(address)(reg)
        names = []
        index = 0
        while feature[index].name:
            if feature[index].value != b"0":
                names.append(feature[index].name.decode())
            index += 1
        return names

    def weight_buffer_types(self) -> list[Any]:
        """Where llama.cpp would put weights that stay on the CPU, its first choice first (make_cpu_buft_list in
        src/llama-model.cpp): the layouts that special kernels want, then plain memory."""
        device = self.cpu()
        reg = self.backend_dev_backend_reg(device)
        buffer_types: list[Any] = []
        if address := self.backend_reg_get_proc_address(reg, b"ggml_backend_dev_get_extra_bufts"):
            extra = ctypes.CFUNCTYPE(POINTER(c_void_p), c_void_p)(address)(device)
            while extra and extra[len(buffer_types)]:
                buffer_types.append(extra[len(buffer_types)])
        return [*buffer_types, self.backend_dev_buffer_type(device)]

    def cpu_backend(self) -> tuple[Any, Any]:
        """The CPU backend, and the function that sets how many threads it computes with."""
        device = self.cpu()
        address = self.backend_reg_get_proc_address(self.backend_dev_backend_reg(device), b"ggml_backend_set_n_threads")
        return self.backend_dev_init(device, None), ctypes.CFUNCTYPE(None, c_void_p, c_int)(address)
