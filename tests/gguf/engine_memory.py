"""Asks the installed llama.cpp how much cache and state it allocates for models that are nothing but metadata.

    python engine_memory.py N_CTX N_UBATCH FILE.gguf ...

prints one JSON line per file: ``[[MiB, cells], ...]``, as llama.cpp's log tells them, or its last words if it won't.
Run it as a child: figures that don't fit together make llama.cpp abort. ``llama_model_init_from_user`` makes up the
tensors itself, so no weights are needed.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
from pathlib import Path

import llama_cpp


class InitParams(ctypes.Structure):
    """``struct gguf_init_params`` of ggml/include/gguf.h."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


def main(n_ctx: int, n_ubatch: int, paths: list[str]) -> None:
    log: list[str] = []
    keep_log = llama_cpp.llama_log_callback(lambda level, text, data: log.append(text.decode(errors="replace")))
    no_data = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(lambda tensor, data: None)
    llama_cpp.llama_log_set(keep_log, None)
    library = next((Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.*"))
    from_file = ctypes.CDLL(str(library)).gguf_init_from_file
    from_file.restype, from_file.argtypes = ctypes.c_void_p, (ctypes.c_char_p, InitParams)
    for path in paths:
        log.clear()
        metadata = from_file(path.encode(), InitParams(True, None))
        loading = llama_cpp.llama_model_default_params()
        loading.load_mtp = True  # made-up draft layers can't be skipped; the main context caches nothing for them
        model = llama_cpp.llama_model_init_from_user(metadata, no_data, None, loading)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.swa_full = n_ctx, n_ubatch, n_ubatch, False
        context = model and llama_cpp.llama_init_from_model(model, params)
        sizes = re.findall(r"size = +([\d.]+) MiB \( *(\d+) cells", "".join(log))
        answer = [[float(mib), int(cells)] for mib, cells in sizes] if context else "".join(log)[-600:]
        print(json.dumps(answer), flush=True)
        if context:
            llama_cpp.llama_free(context)
        if model:
            llama_cpp.llama_model_free(model)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
