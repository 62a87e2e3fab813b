"""Which device gets what, and what each has room for."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.planner import plan
from llmctl.planner.compute import compute_bytes, output_bytes
from llmctl.planner.memory import margin_bytes
from llmctl.planner.placement import Placer
from llmctl.types.machine import Machine
from llmctl.types.model import Weights
from llmctl.types.plan import CPU, Allocation, Configuration, MemoryBasis, Plan, Want
from tests.fakes.real_shapes import shape_of
from tests.planner.machines import EPYC, GIB, LAPTOP, desktop, knowledge, mac, of, placed, with_cards

NINE = of("qwen3.5-9b:UD-Q4_K_XL")[0]
SHAPE, WEIGHTS = NINE.model.shape, NINE.artifact.weights
MIB = 1 << 20


def test_columns_add_up_on_every_device() -> None:
    for machine in (EPYC, LAPTOP, desktop(), desktop(3), mac(), with_cards(3, 4)):
        for candidate in of("qwen3.5-9b"):
            memory = placed(machine, candidate.model.shape, candidate.artifact.weights).memory
            for row in memory.by_device:
                parts = (row.weights_bytes, row.repacked_bytes, row.kv_bytes, row.state_bytes, row.compute_bytes)
                assert sum(parts) == row.total_bytes
                assert min(parts) >= 0
            total = sum(row.weights_bytes + row.repacked_bytes for row in memory.by_device)
            assert total == candidate.artifact.weights.total_bytes
            host, *others = memory.by_device
            assert memory.mapped_bytes == host.weights_bytes + host.repacked_bytes
            must_fit = host.total_bytes - host.weights_bytes + sum(row.total_bytes for row in others)
            assert memory.must_fit_bytes == must_fit >= memory.touched_bytes > 0


class TestOneDevice:
    def test_all_layers_and_the_head_where_they_fit(self) -> None:
        placement = placed(desktop(), SHAPE, WEIGHTS)
        assert placement.gpu_layers == SHAPE.n_layer + 1
        on_cpu, on_device = placement.parts
        assert (on_cpu.dense, on_cpu.layers, on_device.dense, on_device.layers) == (0, 0, 1, 1)
        assert placement.configuration.layers_per_device == ()
        host, card = placement.memory.by_device
        assert (host.device, card.device) == (CPU, "cuda0")
        assert host.kv_bytes == 0 and host.repacked_bytes == 0
        assert host.weights_bytes == WEIGHTS.embedding_bytes  # the token table stays
        assert card.weights_bytes == WEIGHTS.total_bytes - WEIGHTS.embedding_bytes
        assert card.compute_bytes == compute_bytes(SHAPE, placement.configuration)

    def test_some_layers_where_not(self) -> None:
        placement = placed(desktop(4), SHAPE, WEIGHTS)
        assert 0 < placement.gpu_layers < SHAPE.n_layer
        assert not placement.shortages
        one_more = placed(desktop(4), SHAPE, WEIGHTS, gpu_layers=placement.gpu_layers + 1)
        assert one_more.configuration.kv_type == "q8_0" or list(one_more.shortages) == ["cuda0"]

    def test_the_head_goes_first_then_the_last_layers(self) -> None:
        """So llama.cpp counts since 2026: with -ngl 31 of Qwen3.5 9B's 33, the first two layers stay on the CPU, their
        state with them (16.75 of 201 MiB for four sequences) and the token table."""
        shape = shape_of("qwen35-9b")
        settings = Configuration(8192, sequences=4, gpu_layers=31, flash_attention=True)
        host, card = Placer(desktop(40), shape, WEIGHTS).place(settings).memory.by_device
        assert host.state_bytes == pytest.approx(16.75 * MIB, rel=0.001)
        assert card.state_bytes == pytest.approx(184.25 * MIB, rel=0.001)
        assert host.kv_bytes == 0  # the first layer that attends is the fourth
        head_only = Placer(desktop(40), shape, WEIGHTS).place(replace(settings, gpu_layers=1))
        assert head_only.memory.by_device[1].state_bytes == 0
        assert head_only.memory.by_device[1].weights_bytes > 0

    def test_none_where_there_is_no_room_for_one(self) -> None:
        placement = placed(desktop(0.6), SHAPE, WEIGHTS)
        assert (placement.gpu_layers, placement.accelerator) == (0, None)
        assert not placement.shortages

    def test_what_is_asked_for_and_nothing_else(self) -> None:
        assert placed(desktop(), SHAPE, WEIGHTS, gpu_layers=7).gpu_layers == 7
        assert placed(desktop(), SHAPE, WEIGHTS, gpu_layers=-1).gpu_layers == SHAPE.n_layer + 1
        assert placed(desktop(), SHAPE, WEIGHTS, gpu_layers=0).accelerator is None
        assert placed(desktop(4), SHAPE, WEIGHTS, gpu_layers=999).short_bytes > 0
        assert placed(EPYC, SHAPE, WEIGHTS, gpu_layers=20).gpu_layers == 0  # there is no device

    def test_a_card_that_the_engine_cannot_use_is_left_alone(self) -> None:
        machine = desktop()
        card = replace(machine.accelerators[0], usable=False, why="engine built for CPU only")
        assert placed(replace(machine, accelerators=(card,)), SHAPE, WEIGHTS).accelerator is None

    def test_a_table_that_is_also_the_head_is_there_twice(self) -> None:
        """Gemma 3 1B Q4_K_M in a log: 762.54 MiB on the card, which is all of it, and 306 MiB of it mapped as well."""
        table = 306 * MIB
        weights = Weights(round(762.5 * MIB), 0, 0, {"Q8_0": round(762.5 * MIB)}, exact=True, tied_bytes=table)
        host, card = placed(desktop(), shape_of("gemma3-1b"), weights).memory.by_device
        assert (host.weights_bytes, card.weights_bytes) == (table, weights.total_bytes)
        assert placed(EPYC, shape_of("gemma3-1b"), weights).memory.mapped_bytes == weights.total_bytes


class TestSharedMemory:
    def test_unified_memory_is_counted_once(self) -> None:
        roomy = placed(mac(), SHAPE, WEIGHTS)
        assert roomy.gpu_layers == SHAPE.n_layer + 1 and not roomy.shortages
        both = sum(row.total_bytes for row in roomy.memory.by_device)
        settings = replace(roomy.configuration, gpu_layers=SHAPE.n_layer + 1)
        tight = Placer(mac(memory_gib=both / GIB), SHAPE, WEIGHTS).place(settings)
        assert list(tight.shortages) == [CPU]
        assert tight.shortages[CPU] == pytest.approx(margin_bytes(both), abs=2)


class TestSeveralCards:
    def test_what_fits_on_one_goes_to_the_roomiest_alone(self) -> None:
        placement = placed(with_cards(8, 11, 10), SHAPE, WEIGHTS)
        assert placement.configuration.layers_per_device == (0, SHAPE.n_layer + 1, 0)
        assert [row.device for row in placement.memory.by_device] == [CPU, "cuda1"]
        assert placement.accelerator is not None and placement.accelerator.id == "cuda1"

    def test_what_does_not_is_divided_by_free_memory(self) -> None:
        placement = placed(with_cards(4, 6), SHAPE, WEIGHTS)
        first, second = placement.configuration.layers_per_device
        assert first + second == placement.gpu_layers == SHAPE.n_layer + 1
        assert (first, second) == (14, 19)  # ceil(33 x 4 / 10), as llama.cpp has it
        host, *cards = placement.memory.by_device
        assert not placement.shortages and host.kv_bytes == 0
        assert sum(row.weights_bytes for row in cards) == WEIGHTS.total_bytes - WEIGHTS.embedding_bytes

    def test_each_keeps_copies_of_its_inputs(self) -> None:
        """Llama 3.1 8B at 8,192 tokens on devices that compute nothing: 564 MiB of compute on one, 656 on the first of
        three and 688 on the others; 36 and 120 with the CPU, and the output."""
        llama = shape_of("llama-3.1-8b")
        weights = Weights(4 * GIB, 0, 0, {"Q4_K": 4 * GIB}, exact=True)
        settings = Configuration(8192, gpu_layers=33)
        beside, device = Placer(desktop(40), llama, weights).place(settings).memory.by_device
        with_three, *three = Placer(with_cards(40, 40, 40), llama, weights).place(settings).memory.by_device
        computes = [row.compute_bytes / MIB for row in (device, *three)]
        assert computes == pytest.approx([564, 656, 688, 688], rel=0.03)
        assert min(own - theirs for own, theirs in zip(computes, (564, 656, 688, 688), strict=True)) >= 0
        hosts = [(row.compute_bytes - output_bytes(llama, settings)) / MIB for row in (beside, with_three)]
        assert hosts == pytest.approx([36.01, 120.04], rel=0.11)

    def test_a_division_that_does_not_fit_gives_way_to_one_that_does(self) -> None:
        """The head is worth many layers: the last of two equal cards gets fewer."""
        llama = shape_of("qwen3-0.6b")
        big_head = Weights(7 * GIB, 0, 0, {"Q8_0": 7 * GIB}, True, layer_bytes=(128 * MIB,) * 28)
        placement = placed(with_cards(4.3, 5.4), llama, big_head)
        first, second = placement.configuration.layers_per_device
        assert not placement.shortages and first + second == 29 and first > second

    def test_never_on_the_sum(self) -> None:
        """5.0 GiB of weights and two cards of 3.2, of which a sixth stays free on each."""
        placement = placed(with_cards(3.2, 3.2), SHAPE, WEIGHTS)
        assert placement.gpu_layers < SHAPE.n_layer + 1
        for row in placement.memory.by_device:
            assert row.total_bytes <= row.available_bytes - margin_bytes(row.available_bytes)

    def test_a_card_without_room_gets_nothing(self) -> None:
        placement = placed(with_cards(0.6, 5), SHAPE, WEIGHTS)
        assert placement.configuration.layers_per_device[0] == 0
        assert placement == placed(with_cards(0.6, 5), SHAPE, WEIGHTS)
        assert [row.device for row in placement.memory.by_device] == [CPU, "cuda1"]


def test_what_is_loaded_beside_it_lies_with_the_head_and_must_fit() -> None:
    """A vision projector of 1 GB: on the card if there is one, else a copy in memory."""
    candidate = replace(NINE, artifact=replace(NINE.artifact, projector_bytes=1_000_000_000))
    for machine in (EPYC, desktop(), desktop(4)):
        alone, together = (
            plan(machine, [candidate_planned], Want(context=4096, min_tok_s=0), knowledge())
            for candidate_planned in (NINE, candidate)
        )
        assert isinstance(alone, Plan) and isinstance(together, Plan)
        before, after = alone.choice.memory, together.choice.memory
        if alone.choice.configuration == together.choice.configuration:
            assert after.must_fit_bytes - before.must_fit_bytes == 1_000_000_000
            assert after.mapped_bytes == before.mapped_bytes
            assert after.by_device[-1].weights_bytes - before.by_device[-1].weights_bytes == 1_000_000_000
        else:  # it takes the place of layers
            assert machine == desktop(4) and together.choice.gpu_layers < alone.choice.gpu_layers


class TestExperts:
    moe = of("gpt-oss-20b")[0]

    def put(self, machine: Machine) -> tuple[int, int]:
        settings = placed(machine, self.moe.model.shape, self.moe.artifact.weights).configuration
        return settings.gpu_layers, settings.cpu_expert_layers

    def test_they_stay_where_there_is_room(self) -> None:
        assert self.put(desktop(16)) == (25, 0)

    def test_as_few_as_it_takes_go_to_the_cpu(self) -> None:
        layers, expert_layers = self.put(desktop(8))
        assert layers == 25 and 0 < expert_layers < 24
        placement = placed(desktop(8), self.moe.model.shape, self.moe.artifact.weights)
        host, card = placement.memory.by_device
        assert host.weights_bytes > self.moe.artifact.weights.expert_bytes * expert_layers // 24
        assert host.kv_bytes == host.repacked_bytes == 0
        assert card.total_bytes <= card.available_bytes - margin_bytes(card.available_bytes)
        one_less = replace(placement.configuration, cpu_expert_layers=expert_layers - 1)
        placer = Placer(desktop(8), self.moe.model.shape, self.moe.artifact.weights)
        assert list(placer.place(one_less).shortages) == ["cuda0"]

    def test_all_of_them_before_a_layer_goes(self) -> None:
        layers, expert_layers = self.put(desktop(1.6))
        assert 0 < layers < 25 and expert_layers == 24

    def test_experts_on_the_cpu_are_no_part_of_the_card(self) -> None:
        shape, weights = self.moe.model.shape, self.moe.artifact.weights
        placer = Placer(desktop(4), shape, weights)
        for stay, experts_there in ((24, 0.0), (12, 0.5)):
            on_cpu, on_device = placer.place(Configuration(8192, gpu_layers=25, cpu_expert_layers=stay)).parts
            assert (on_device.layers, on_device.dense) == pytest.approx((1.0, 1.0))
            assert (on_device.experts, on_cpu.experts) == pytest.approx((experts_there, 1 - experts_there))


class TestTheEnginesOwnSums:
    told = Allocation(100 * MIB, 40 * MIB, 1 * MIB, {"CPU": 600 * MIB})

    def test_they_stand_above_the_formulas(self) -> None:
        placer, settings = Placer(EPYC, SHAPE, WEIGHTS), Configuration(8192)
        formulas = placer.place(settings).memory
        memory = placer.place(settings, self.told).memory
        (row,), (before,) = memory.by_device, formulas.by_device
        assert (row.kv_bytes, row.state_bytes, row.compute_bytes) == (100 * MIB, 40 * MIB, 601 * MIB)
        assert (row.weights_bytes, row.repacked_bytes) == (before.weights_bytes, before.repacked_bytes)
        assert (memory.basis, formulas.basis) == (MemoryBasis.ENGINE, MemoryBasis.ANALYTIC)
        assert memory.analytic_must_fit_bytes == formulas.must_fit_bytes
        apart = abs(formulas.must_fit_bytes - memory.must_fit_bytes) / memory.must_fit_bytes
        assert memory.disagreement == apart > 0 and formulas.disagreement == 0

    def test_buffers_of_devices_find_their_device(self) -> None:
        told = replace(self.told, compute_bytes={"CUDA0": 500 * MIB, "CUDA1": 600 * MIB, "CUDA_Host": 20 * MIB})
        placer = Placer(with_cards(6, 6), SHAPE, WEIGHTS)
        settings = Configuration(8192, flash_attention=True, gpu_layers=33, layers_per_device=(17, 16))
        memory = placer.place(settings, told).memory
        assert [row.compute_bytes // MIB for row in memory.by_device] == [21, 500, 600]
        assert sum(row.kv_bytes for row in memory.by_device) == pytest.approx(100 * MIB, abs=2)
        unlike = replace(told, compute_bytes={"CUDA0": 500 * MIB, "CPU": 20 * MIB})  # of another number of devices
        assert placer.place(settings, unlike).memory.basis is MemoryBasis.ANALYTIC
