"""Weight types: what a block of each holds, and the label that a file's mix of types goes by.

Sources: ``enum ggml_type`` (ggml/include/ggml.h), the block structs (ggml/src/ggml-common.h) and ``enum llama_ftype``
(include/llama.h) of llama.cpp at 0c1e570, 2026-10. A test compares the sizes with the installed library's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from llmctl.types.header import Header


class WeightType(Struct, frozen=True):
    """``block_length`` weights are stored together in ``block_bytes``; a row is a whole number of blocks."""

    name: str
    block_length: int
    block_bytes: int

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.block_bytes / self.block_length


WEIGHT_TYPES: Mapping[int, WeightType] = {
    0: WeightType("F32", 1, 4),
    1: WeightType("F16", 1, 2),
    2: WeightType("Q4_0", 32, 18),
    3: WeightType("Q4_1", 32, 20),
    6: WeightType("Q5_0", 32, 22),
    7: WeightType("Q5_1", 32, 24),
    8: WeightType("Q8_0", 32, 34),
    9: WeightType("Q8_1", 32, 36),
    10: WeightType("Q2_K", 256, 84),
    11: WeightType("Q3_K", 256, 110),
    12: WeightType("Q4_K", 256, 144),
    13: WeightType("Q5_K", 256, 176),
    14: WeightType("Q6_K", 256, 210),
    15: WeightType("Q8_K", 256, 292),
    16: WeightType("IQ2_XXS", 256, 66),
    17: WeightType("IQ2_XS", 256, 74),
    18: WeightType("IQ3_XXS", 256, 98),
    19: WeightType("IQ1_S", 256, 50),
    20: WeightType("IQ4_NL", 32, 18),
    21: WeightType("IQ3_S", 256, 110),
    22: WeightType("IQ2_S", 256, 82),
    23: WeightType("IQ4_XS", 256, 136),
    24: WeightType("I8", 1, 1),
    25: WeightType("I16", 1, 2),
    26: WeightType("I32", 1, 4),
    27: WeightType("I64", 1, 8),
    28: WeightType("F64", 1, 8),
    29: WeightType("IQ1_M", 256, 56),
    30: WeightType("BF16", 1, 2),
    34: WeightType("TQ1_0", 256, 54),
    35: WeightType("TQ2_0", 256, 66),
    39: WeightType("MXFP4", 32, 17),
    40: WeightType("NVFP4", 64, 36),
    41: WeightType("Q1_0", 128, 18),
    42: WeightType("Q2_0", 64, 18),
}
"""ggml's type number -> what it is. Numbers that are missing here were withdrawn by ggml, or are unknown to it."""

WEIGHT_TYPE_BY_NAME: Mapping[str, WeightType] = {kind.name: kind for kind in WEIGHT_TYPES.values()}
TYPE_NUMBERS: Mapping[str, int] = {kind.name: number for number, kind in WEIGHT_TYPES.items()}

WITHDRAWN: Mapping[int, str] = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}
"""Types that llama.cpp used to read and now refuses: such a file must be converted again."""

FILE_TYPES: Mapping[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}
"""``general.file_type`` -> the label that people and file names use."""

FILE_TYPE_GUESSED = 1024  # LLAMA_FTYPE_GUESSED: a flag added where the type was inferred


def quant_label(header: Header) -> str:
    """``Q4_K_M`` and the like: what ``general.file_type`` says, else the type that most bytes are stored in."""
    file_type = header.metadata.get("general.file_type")
    if isinstance(file_type, int) and (label := FILE_TYPES.get(file_type & ~FILE_TYPE_GUESSED)):
        return label
    by_type: Counter[str] = Counter()
    for tensor in header.tensors:
        by_type[tensor.type] += tensor.nbytes
    return by_type.most_common(1)[0][0] if by_type else "unknown"
