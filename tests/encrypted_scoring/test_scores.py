"""Encrypted scores are those in clear, of any whole numbers; what is broken, noisy or another's is refused."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from llmctl.encrypted_scoring import library
from llmctl.encrypted_scoring.asker import asked, opened
from llmctl.encrypted_scoring.container import Container
from llmctl.encrypted_scoring.parameters import DEGREE, LARGEST, MARGIN_BITS, parameters
from llmctl.encrypted_scoring.quantized import Quantized, quantized, scores
from llmctl.encrypted_scoring.scorer import scored
from llmctl.errors import IntegrityError, UsageError


def vectors(count: int, dimensions: int, seed: int = 1) -> Quantized:
    source = random.Random(seed)
    rows = tuple(tuple(source.randint(-LARGEST, LARGEST) for _ in range(dimensions)) for _ in range(count))
    return Quantized(rows, 1.0)


def question_of(row: tuple[int, ...]) -> tuple[Container, Container, tuple[int, ...]]:
    """Encrypted, its key, and the numbers that were encrypted."""
    question, key = asked([number / LARGEST for number in row])
    return question, key, quantized([[number / LARGEST for number in row]]).rows[0]


@pytest.mark.parametrize(
    ("dimensions", "count"), [(1, 5), (3, 40), (384, 105), (768, 12), (1000, 9), (2048, 3), (2049, 2), (DEGREE, 2)]
)
def test_scores_are_those_in_clear(dimensions: int, count: int) -> None:
    kept = vectors(count, dimensions)
    question, key, numbers = question_of(vectors(1, dimensions, seed=2).rows[0])
    answer = opened(scored(question, kept), key)
    assert list(answer.exact) == scores(numbers, kept.rows)
    assert answer.noise_budget_bits is not None and answer.noise_budget_bits >= 2 * MARGIN_BITS


def test_the_largest_numbers_of_either_sign_come_out_right() -> None:
    rows = tuple(tuple(sign * LARGEST for _ in range(DEGREE)) for sign in (1, -1))
    question, key, _ = question_of(rows[0])
    answer = opened(scored(question, Quantized(rows, 1.0)), key)
    assert answer.exact == (DEGREE * LARGEST**2, -DEGREE * LARGEST**2)


def test_real_numbers_come_out_to_their_rounding() -> None:
    source = random.Random(3)
    rows = [[source.gauss(0, 0.05) for _ in range(384)] for _ in range(30)]
    question, key = asked(rows[0])
    answer = opened(scored(question, quantized(rows)), key)
    for score, row in zip(answer.scores, rows, strict=True):
        assert score == pytest.approx(sum(map(float.__mul__, rows[0], row)), abs=0.02)
    assert max(answer.scores) == answer.scores[0]


def test_vectors_of_zeros_score_nothing() -> None:
    question, key, _ = question_of(vectors(1, 8).rows[0])
    kept = Quantized(((0,) * 8,) * 600, 1.0)  # more than one ciphertext has
    assert set(opened(scored(question, kept), key).exact) == {0}


def test_the_parameters_are_what_the_library_takes_for_128_bits() -> None:
    for dimensions in (1, 384, DEGREE):
        chosen = parameters(dimensions)
        made = library.context(chosen)
        moduli = made.key_context_data().parms().coeff_modulus()
        most = library.sealapi.CoeffModulus.MaxBitCount(DEGREE, library.LEVEL)
        assert sum(modulus.bit_count() for modulus in moduli) <= most == 109
        assert chosen.modulus > 2 * chosen.largest_score


@pytest.mark.parametrize("dimensions", [0, DEGREE + 1])
def test_other_dimensions_are_refused(dimensions: int) -> None:
    with pytest.raises(UsageError):
        parameters(dimensions)


def test_an_answer_tells_no_vector_but_by_its_scores() -> None:
    """What the places beside the scores hold is as random as the range: without noise they would be products."""
    kept = vectors(1, 64)
    question, key, _ = question_of((1,) + (0,) * 63)
    made = library.context(parameters(64))
    decryptor = library.sealapi.Decryptor(made, library.read_secret_key(made, key.parts[0]))
    seen = []
    for _ in range(2):
        plaintext = library.sealapi.Plaintext()
        decryptor.decrypt(library.read_ciphertext(made, scored(question, kept).parts[0]), plaintext)
        seen.append([library.coefficient(plaintext, at, parameters(64).modulus) for at in range(63)])
    assert len(set(seen[0]) & set(seen[1])) < 5
    assert max(map(abs, seen[0])) > parameters(64).largest_score // 4


def test_an_answer_with_too_little_noise_budget_is_refused() -> None:
    question, key, _ = question_of(vectors(1, 384).rows[0])
    answer = scored(question, vectors(3, 384))
    made = library.context(parameters(384))
    ciphertext = library.read_ciphertext(made, answer.parts[0])
    library.sealapi.Evaluator(made).mod_switch_to_next_inplace(ciphertext)
    noisy = replace(answer, parts=(library.ciphertext_bytes(ciphertext),))
    with pytest.raises(IntegrityError, match=r"noise budget of \d bits, 10 are needed"):
        opened(noisy, key)


def test_what_is_another_s_or_broken_is_refused() -> None:
    question, key, _ = question_of(vectors(1, 384).rows[0])
    _, other_key, _ = question_of(vectors(1, 384, seed=5).rows[0])
    answer = scored(question, vectors(12, 384))
    part = answer.parts[0]
    for wrong in (
        (answer, other_key),
        (replace(answer, parts=answer.parts[:1]), key),
        (replace(answer, dimensions=383), key),
        (replace(answer, parts=(part[:1000], part)), key),
        (replace(answer, parts=(bytes(1 << 19), part)), key),
        (answer, replace(key, parts=(part,))),
        (answer, replace(key, parts=())),
    ):
        with pytest.raises(IntegrityError):
            opened(*wrong)
    for broken in (replace(question, parts=(question.parts[0][:-9],)), replace(question, parts=())):
        with pytest.raises(IntegrityError):
            scored(broken, vectors(2, 384))
    with pytest.raises(UsageError, match="384 dimensions and the vectors 383"):
        scored(question, vectors(2, 383))


@pytest.mark.parametrize("rows", [[], [[]], [[1.0], [1.0, 2.0]], [[float("nan"), 1.0]], [[1.0], [float("inf")]]])
def test_what_can_t_be_compared_is_refused(rows: list[list[float]]) -> None:
    with pytest.raises(UsageError):
        quantized(rows)
