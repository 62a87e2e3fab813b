"""The child that loads llama-cpp-python, multiplies two matrices with it, and says what it can run on."""

from __future__ import annotations

import sys
from typing import Any

from llmctl import child
from llmctl.engine import binding
from llmctl.engine.devices import NAME
from llmctl.engine.measure import ggml, matmul
from llmctl.struct import asdict
from llmctl.types.machine import EngineDevice, EngineInfo

LONGEST_WHY = 500  # a path of the loader, and behind it what is missing


def listed(_: Any) -> dict[str, Any]:
    """Everything that EngineInfo holds."""
    try:
        binding.functions_only()
        from llama_cpp import __version__

        library = ggml.Ggml()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return asdict(EngineInfo(NAME, None, None, why=f"{NAME} can't be loaded: {str(error)[:LONGEST_WHY]}"))
    matmul.try_out()  # a build for another CPU ends here, with an illegal instruction
    devices = [
        EngineDevice(
            name=props.name.decode("utf-8", "replace"),
            description=props.description.decode("utf-8", "replace").strip(),
            backend=backend,
            kind=ggml.DEVICE_KINDS[props.type] if props.type < len(ggml.DEVICE_KINDS) else "unknown",
            memory_total_bytes=props.memory_total,
            memory_free_bytes=props.memory_free,
            id=props.device_id.decode("utf-8", "replace").lower() if props.device_id else None,
        )
        for backend, props in library.devices()
    ]
    return asdict(
        EngineInfo(
            name=NAME,
            version=__version__,
            build=library.build(),
            backends=tuple(library.backends()),
            features=tuple(library.features()),
            devices=tuple(devices),
            usable=True,
        )
    )


if __name__ == "__main__":
    sys.exit(child.answer(listed))
