"""The order of preference: what gives way first, what never does, and what more memory never makes worse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmctl.planner import plan
from llmctl.planner.configure import TEXTS_AT_ONCE, configure, takes_quantized_cache
from llmctl.planner.memory import margin_bytes
from llmctl.planner.placement import Placement, Placer
from llmctl.types.machine import Machine
from llmctl.types.model import Candidate, Shape, Weights
from llmctl.types.plan import Allocation, Configuration, Fit, MemoryPlan, NoFit, Plan, Want
from tests.fakes.real_shapes import shape_of
from tests.planner.machines import (
    EPYC,
    GIB,
    desktop,
    everything,
    knowledge,
    mac,
    made,
    of,
    placed,
    with_cards,
)
from tests.properties import examples

MIB = 1 << 20
LLAMA = shape_of("llama-3.1-8b")
LLAMA_FILE = Weights(round(4.6 * GIB), 280 * MIB, 0, {"Q4_K": round(4.3 * GIB)}, exact=True)
CONTEXTS = (8192, 4096, 2048)


def chosen(
    machine: Machine, want: Want | None = None, shape: Shape = LLAMA, weights: Weights = LLAMA_FILE
) -> tuple[Configuration, bool]:
    placement = configure(Placer(machine, shape, weights), want or Want(), CONTEXTS, lambda _: None)
    return placement.configuration, not placement.shortages


def epyc(free_gib: float) -> Machine:
    return replace(EPYC, memory=replace(EPYC.memory, available_bytes=round(free_gib * GIB)))


class TestOnTheCpu:
    """Llama 3.1 8B: 4.6 GiB of weights, 1 GiB of cache in f16 at 8,192 tokens, 0.56 of compute, 0.5 kept free."""

    @pytest.mark.parametrize(
        ("free_gib", "context", "kv_type", "flash", "ubatch"),
        [
            (7.0, 8192, "f16", False, 512),
            (6.2, 8192, "q8_0", True, 512),
            (5.85, 8192, "q8_0", True, 256),
            (5.72, 8192, "q8_0", True, 128),
            (5.45, 4096, "q8_0", True, 128),
            (5.33, 2048, "q8_0", True, 128),
        ],
    )
    def test_what_gives_way_first(self, free_gib: float, context: int, kv_type: str, flash: bool, ubatch: int) -> None:
        settings, fits = chosen(epyc(free_gib))
        assert fits
        actual = (settings.context, settings.kv_type, settings.flash_attention, settings.ubatch)
        assert actual == (context, kv_type, flash, ubatch)

    def test_a_picture_is_computed_at_once(self) -> None:
        assert min(chosen(epyc(free_gib), Want(sees=True))[0].ubatch for free_gib in (5.85, 5.72, 5.45, 5.33)) == 256

    def test_what_does_not_fit_tells_the_shortest_gap(self) -> None:
        placer = Placer(epyc(4.0), LLAMA, LLAMA_FILE)
        nearest = configure(placer, Want(), CONTEXTS, lambda _: None)
        smallest = placer.place(Configuration(2048, "q8_0", flash_attention=True, ubatch=128))
        assert nearest.shortages == smallest.shortages != {}

    @pytest.mark.parametrize("kv_type", ["f16", "q8_0", "q4_0"])
    def test_the_type_that_was_asked_for_stays(self, kv_type: str) -> None:
        for free_gib in (7.0, 5.6):
            settings, _ = chosen(epyc(free_gib), Want(kv_type=kv_type))
            assert settings.kv_type == kv_type
            assert settings.flash_attention == (kv_type != "f16")

    def test_q4_0_is_never_chosen_unasked(self) -> None:
        assert all(chosen(epyc(free))[0].kv_type != "q4_0" for free in (3.0, 5.2, 5.6, 7.0))

    def test_repacking_can_be_turned_off(self) -> None:
        placements = [
            configure(Placer(EPYC, LLAMA, LLAMA_FILE), Want(repack=repack), CONTEXTS, lambda _: None)
            for repack in (True, False)
        ]
        with_copy, without = (placement.memory for placement in placements)
        assert [placement.configuration.repack for placement in placements] == [True, False]
        copy = with_copy.by_device[0].repacked_bytes
        assert copy == LLAMA_FILE.type_bytes["Q4_K"] and without.by_device[0].repacked_bytes == 0
        assert with_copy.must_fit_bytes - without.must_fit_bytes == copy
        assert with_copy.by_device[0].total_bytes == without.by_device[0].total_bytes

    def test_a_model_without_a_cache_has_nothing_to_quantize(self) -> None:
        mamba, grok, phi2 = (shape_of(name) for name in ("mamba2-2.7b", "grok1", "phi2"))
        assert not any(takes_quantized_cache(shape) for shape in (mamba, grok, phi2))
        settings, _ = chosen(epyc(0.6), shape=mamba, weights=Weights(1 * GIB, 0, 0, {"Q8_0": GIB}, exact=True))
        assert settings.kv_type == "f16"

    def test_an_encoder_reads_a_text_in_one_go(self) -> None:
        weights = Weights(GIB, 0, 0, {"Q8_0": GIB}, exact=True)
        settings, fits = chosen(EPYC, shape=shape_of("bge-m3"), weights=weights)
        assert fits and settings.ubatch == settings.context == 8192
        assert settings.sequences == TEXTS_AT_ONCE
        host = placed(EPYC, shape_of("bge-m3"), weights).memory.by_device[0]
        assert host.kv_bytes == 0 and host.compute_bytes > 16 * 8192 * 8192 * 4  # every token's view of every other


class TestOnDevices:
    @pytest.mark.parametrize(
        ("free_gib", "layers", "kv_type", "ubatch"),
        [
            (7.0, 33, "f16", 512),
            (5.9, 33, "q8_0", 512),
            (5.5, 33, "q8_0", 256),
            (5.45, 33, "q8_0", 128),
        ],
    )
    def test_what_gives_way_first(self, free_gib: float, layers: int, kv_type: str, ubatch: int) -> None:
        settings, fits = chosen(desktop(free_gib))
        assert fits and settings.flash_attention and settings.context == 8192
        assert (settings.gpu_layers, settings.kv_type, settings.ubatch) == (layers, kv_type, ubatch)

    def test_then_layers_go_and_the_rest_is_as_at_first(self) -> None:
        settings, fits = chosen(desktop(5.0))
        assert fits and 0 < settings.gpu_layers < 33
        assert (settings.context, settings.kv_type, settings.ubatch) == (8192, "f16", 512)

    def test_then_context_where_the_rest_has_no_room_on_the_cpu(self) -> None:
        roomy, fits = chosen(desktop(3.0, memory_gib=28))
        assert fits and roomy.context == 8192
        tight, fits = chosen(desktop(3.0, memory_gib=3.6))
        assert fits and tight.context < 8192 and tight.gpu_layers == roomy.gpu_layers

    def test_experts_give_way_before_the_cache(self) -> None:
        (moe,) = of("gpt-oss-20b")
        for free_gib in (11.0, 6.0):
            settings, fits = chosen(desktop(free_gib), shape=moe.model.shape, weights=moe.artifact.weights)
            assert fits and settings.gpu_layers == 25 and settings.cpu_expert_layers > 0
            assert (settings.kv_type, settings.ubatch) == ("f16", 512)

    def test_unified_memory_saves_context_not_layers(self) -> None:
        settings, fits = chosen(mac(memory_gib=6.2, budget_gib=20))
        assert fits and settings.gpu_layers == 33 and settings.kv_type == "q8_0"
        settings, fits = chosen(mac(memory_gib=5.5, budget_gib=20))
        assert fits and settings.gpu_layers == 0 and settings.context < 8192

    def test_layers_that_were_asked_for_are_had_or_told(self) -> None:
        for wanted, layers in ((-1, 33), (20, 20), (0, 0)):
            settings, fits = chosen(desktop(11), Want(gpu_layers=wanted))
            assert fits and settings.gpu_layers == layers
        settings, fits = chosen(desktop(3), Want(gpu_layers=-1))
        assert not fits and settings.gpu_layers == 33

    def test_layers_that_were_asked_for_may_cost_context(self) -> None:
        settings, fits = chosen(desktop(5.05), Want(gpu_layers=-1))
        assert fits and settings.gpu_layers == 33 and settings.context < 8192


class TestAsked:
    """Through the plan: an explicit wish that doesn't fit is an error with the gap in bytes."""

    @pytest.mark.parametrize(
        ("machine", "want"),
        [
            (epyc(5.6), Want(context=8192, kv_type="f16")),
            (desktop(3.0), Want(gpu_layers=-1)),
            (epyc(6.0), Want(context=32768)),
        ],
    )
    def test_the_gap_is_told(self, machine: Machine, want: Want) -> None:
        candidate = made(gib=4.6)
        answer = plan(machine, [candidate], replace(want, explicit=True), knowledge())
        assert isinstance(answer, NoFit)
        assert answer.nearest is not None and answer.nearest.short_by_bytes is not None
        assert answer.nearest.short_by_bytes > 0
        assert "short" in answer.reason and "free" in answer.reason

    def test_the_gap_is_what_is_missing(self) -> None:
        candidate, want = made(gib=4.6), Want(context=8192, kv_type="f16", explicit=True, min_tok_s=0)
        answer = plan(epyc(5.6), [candidate], want, knowledge())
        assert isinstance(answer, NoFit) and answer.nearest and answer.nearest.short_by_bytes
        enough = 5.6 + answer.nearest.short_by_bytes / GIB
        assert isinstance(plan(epyc(enough + 0.001), [candidate], want, knowledge()), Plan)
        assert isinstance(plan(epyc(enough - 0.001), [candidate], want, knowledge()), NoFit)

    def test_a_cache_that_the_engine_cannot_quantize(self) -> None:
        candidate = made()
        shape = replace(candidate.model.shape, key_length=80, value_length=80)
        odd = replace(candidate, model=replace(candidate.model, shape=shape))
        answer = plan(EPYC, [odd], Want(kv_type="q8_0", explicit=True), knowledge())
        assert isinstance(answer, NoFit) and "cache in q8_0" in answer.reason
        assert isinstance(plan(EPYC, [odd], Want(kv_type="f16"), knowledge()), Plan)

    def test_what_was_changed_is_told(self) -> None:
        answer = plan(epyc(3.75), [made()], Want(min_tok_s=0), knowledge())
        assert isinstance(answer, Plan)
        reasons = " ".join(answer.choice.reasons)
        assert "KV cache is kept in q8_0" in reasons and "tokens at once instead of 512" in reasons
        (moe,) = of("gpt-oss-20b")
        answer = plan(desktop(8), [moe], Want(min_tok_s=0), knowledge())
        assert isinstance(answer, Plan)
        assert any("experts of" in reason for reason in answer.choice.reasons)

    def test_the_engine_has_the_last_word(self) -> None:
        """Where it takes more than the formulas say, the next settings are tried."""
        asked: list[Configuration] = []

        def engine(configuration: Configuration) -> Allocation | None:
            asked.append(configuration)
            return Allocation(GIB, 0, 0, {"CPU": 3 * GIB}) if configuration.kv_type == "f16" else None

        placement = configure(Placer(epyc(7.0), LLAMA, LLAMA_FILE), Want(), CONTEXTS, engine)
        assert not placement.shortages and placement.configuration.kv_type == "q8_0"
        assert asked[0].kv_type == "f16"


FILES: list[tuple[Shape, Weights]] = [
    (LLAMA, LLAMA_FILE),
    *(
        (candidate.model.shape, candidate.artifact.weights)
        for name in ("gpt-oss-20b", "gemma-4-e4b-it")
        for candidate in of(name)[:1]
    ),
    (
        shape_of("qwen35moe-35b"),
        Weights(20 * GIB, 500 * MIB, 17 * GIB, {"Q4_K": 19 * GIB}, True, {}, 0, (470 * MIB,) * 40, (430 * MIB,) * 40),
    ),
]
SIZES = st.integers(min_value=200 * MIB, max_value=40 * GIB)
MORE = st.integers(min_value=0, max_value=12 * GIB)
KINDS = st.sampled_from(["cpu", "card", "cards", "three cards", "mac"])
MEMORIES = st.tuples(SIZES, SIZES, SIZES, SIZES)
ADDED = st.tuples(MORE, MORE, MORE, MORE)
WISHES = st.builds(
    Want,
    kv_type=st.sampled_from([None, "f16", "q8_0", "q4_0"]),
    gpu_layers=st.sampled_from([None, None, 0, 5, -1]),
    repack=st.sampled_from([None, True, False]),
    flash_attention=st.sampled_from([None, True, False]),
)


def machine_of(kind: str, host: int, *cards: int) -> Machine:
    free = [size / GIB for size in cards]
    match kind:
        case "cpu":
            return epyc(host / GIB)
        case "card":
            return desktop(free[0], memory_gib=host / GIB)
        case "cards":
            return with_cards(*free[:2], memory_gib=host / GIB)
        case "three cards":
            return with_cards(*free, memory_gib=host / GIB)
    return mac(host / GIB, free[0])


def got(placement: Placement) -> tuple[int, int]:
    """Context and layers on GPUs; nothing where it doesn't fit."""
    return (0, 0) if placement.shortages else (placement.configuration.context, placement.gpu_layers)


def kept_free(memory: MemoryPlan, *, shared: bool) -> bool:
    """Whether every device keeps its margin; memory that devices share is counted once for all of them."""
    needs = [row.total_bytes for row in memory.by_device]
    needs[0] = sum(needs) if shared else needs[0]
    rooms = [row.available_bytes - margin_bytes(row.available_bytes) for row in memory.by_device]
    return all(need <= room for need, room in zip(needs, rooms, strict=True))


@examples(300)
@given(KINDS, st.sampled_from(FILES), MEMORIES, ADDED, WISHES)
def test_more_memory_never_gives_less_context_or_fewer_layers(
    kind: str, file: tuple[Shape, Weights], sizes: tuple[int, ...], more: tuple[int, ...], want: Want
) -> None:
    roomier = [size + extra for size, extra in zip(sizes, more, strict=True)]
    less, lots = (
        configure(Placer(machine_of(kind, *memory), *file), want, CONTEXTS, lambda _: None)
        for memory in (sizes, roomier)
    )
    for placement in (less, lots):
        assert bool(placement.shortages) != kept_free(placement.memory, shared=kind == "mac")
    assert got(less)[0] <= got(lots)[0]
    assert got(less)[1] <= got(lots)[1]


SETTINGS = st.builds(
    Configuration,
    context=st.sampled_from([2048, 8192, 32768]),
    kv_type=st.sampled_from(["f16", "q8_0", "q4_0"]),
    flash_attention=st.just(True),
    ubatch=st.sampled_from([128, 256, 512, 1024, 2048, 4096]),
    swa_full=st.booleans(),
    sequences=st.sampled_from([1, 4]),
    repack=st.booleans(),
) | st.builds(
    Configuration,
    context=st.sampled_from([2048, 8192, 32768]),
    ubatch=st.sampled_from([128, 256, 512, 1024, 2048, 4096]),
    repack=st.booleans(),
)


@examples(300)
@given(KINDS, st.sampled_from(FILES), MEMORIES, ADDED, SETTINGS)
def test_with_any_settings_more_memory_takes_no_fewer_layers_and_is_no_shorter(
    kind: str, file: tuple[Shape, Weights], sizes: tuple[int, ...], more: tuple[int, ...], wanted: Configuration
) -> None:
    roomier = [size + extra for size, extra in zip(sizes, more, strict=True)]
    less, lots = (Placer(machine_of(kind, *memory), *file) for memory in (sizes, roomier))
    assert less.most_layers(wanted) <= lots.most_layers(wanted)
    for layers in {0, less.most_layers(wanted)}:
        settings = replace(wanted, gpu_layers=layers)
        before, after = (placer.place(placer.spread(settings) or settings) for placer in (less, lots))
        for placement in (before, after):
            assert bool(placement.shortages) != kept_free(placement.memory, shared=kind == "mac")
        assert bool(before.shortages) >= bool(after.shortages)


@examples(200)
@given(
    st.sampled_from([made("long", gib=1.2), *of("qwen3.5-9b"), *of("gpt-oss-20b")[:1]]),
    st.integers(min_value=1 * GIB, max_value=30 * GIB),
    st.integers(min_value=0, max_value=6 * GIB),
    st.sampled_from([None, "f16", "q8_0"]),
    st.sampled_from([None, 0.0, 8.0, 16.0]),
)
def test_with_more_memory_the_fastest_settings_have_no_less_context(
    candidate: Candidate, size: int, more: int, kv_type: str | None, floor: float | None
) -> None:
    """On a machine whose kernels were measured: with and without repacked weights and flash attention."""
    want = Want(kv_type=kv_type, min_tok_s=floor, explicit=True)
    less, lots = (plan(epyc((size + extra) / GIB), [candidate], want, knowledge()) for extra in (0, more))
    if isinstance(less, Plan):
        assert isinstance(lots, Plan)
        assert less.choice.context <= lots.choice.context


def fits_of(answer: Plan | NoFit) -> list[Fit]:
    return [] if isinstance(answer, NoFit) else [answer.choice, *answer.alternatives]


@examples(15)
@given(KINDS, MEMORIES, st.sampled_from(["chat", "code"]), WISHES)
def test_what_fits_leaves_the_margin_free_on_every_device(
    kind: str, sizes: tuple[int, ...], task: str, wish: Want
) -> None:
    machine = machine_of(kind, *sizes)
    for fit in fits_of(plan(machine, everything(), replace(wish, task=task, min_tok_s=0), knowledge())):
        assert kept_free(fit.memory, shared=kind == "mac")
        on_devices = fit.configuration.layers_per_device
        assert sum(on_devices) == (fit.gpu_layers if on_devices else 0)


@examples(40)
@given(SIZES, MORE)
def test_more_of_one_card_is_never_less(free: int, more: int) -> None:
    nine: Candidate = of("qwen3.5-9b")[0]
    less, lots = (
        got(placed(with_cards(size / GIB, 3), nine.model.shape, nine.artifact.weights)) for size in (free, free + more)
    )
    assert less <= lots
