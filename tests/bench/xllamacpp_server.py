"""The server in the xllamacpp wheel, with a plan's settings: ``python tests/bench/xllamacpp_server.py SETTINGS``.

Writes the address of its server and answers until its stdin is closed. SETTINGS is JSON: file, clients, context,
threads, batch, and template, the chat template of a model that has none.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

FLASH_ATTENTION_OFF = 0  # llama.h, enum llama_flash_attn_type


def parameters(xllamacpp: Any, settings: dict[str, Any]) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = settings["file"]
    params.n_ctx = settings["context"] * settings["clients"]
    params.n_parallel = settings["clients"]
    params.n_batch = params.n_ubatch = settings["batch"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.flash_attn_type = xllamacpp.llama_flash_attn_type(FLASH_ATTENTION_OFF)
    params.kv_unified = params.fit_params = params.warmup = params.ui = False
    params.cache_ram_mib = params.n_gpu_layers = params.verbosity = 0
    params.hostnames, params.port = ["127.0.0.1"], 0
    if settings["template"] is not None:
        params.chat_template = settings["template"]
    return params


def main() -> None:
    xllamacpp: Any = import_module("xllamacpp")  # a yardstick, which need not be installed
    channel = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    server = xllamacpp.Server(parameters(xllamacpp, json.loads(sys.argv[1])))
    channel.write(f"{server.listening_address}\n")
    channel.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
