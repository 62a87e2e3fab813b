"""What the names of GGUF files tell by custom: the quantization, and whether it is a projector."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

QUANT = re.compile(
    r"(?<![A-Z0-9])((?:UD-)?(?:I?Q[1-9](?:_(?:K|[0-9]|X{0,2}[SL]|M|NL))*|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4)|B?FP?(?:16|32))"
    r"(?![A-Z0-9])"
)
COMPANIONS = ("imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")  # what lies beside a model and is none
PROJECTOR = "mmproj"


def quant(file: str) -> str | None:
    """``Q4_K_M`` of ``Tiny-1B-Q4_K_M-00001-of-00002.gguf``, else of the folder that the file lies in."""
    path = PurePosixPath(file)
    for name in (path.name, path.parent.name):
        if found := QUANT.findall(name.upper()):
            return str(found[-1]).replace("FP16", "F16").replace("FP32", "F32")
    return None


def without_quant(stem: str) -> str:
    """``Tiny-1B`` of ``Tiny-1B-Q4_K_M``."""
    found = quant(stem)
    shorter = re.sub(rf"[-._]{re.escape(found)}$", "", stem, flags=re.IGNORECASE) if found else stem
    return shorter or stem


def is_projector(file: str) -> bool:
    return PROJECTOR in PurePosixPath(file).name.lower()


def is_model(file: str) -> bool:
    """Whether a file of a repository is a model by its name, or one part of a model."""
    name = PurePosixPath(file).name.lower()
    return name.endswith(".gguf") and not is_projector(name) and not any(word in name for word in COMPANIONS)
