"""`llmctl setup` step by step: what each answer does, what stays when it is left, and what it says of machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl import paths, settings
from llmctl.cli import main
from llmctl.cli.output import Output
from llmctl.cli.setup import questions
from llmctl.cli.setup.meaning import meaning
from llmctl.cli.setup.questions import Question
from llmctl.cli.setup.session import SetupSession
from llmctl.errors import AccessError, EngineError, NotFoundError, NothingFitsError, UnreachableError
from llmctl.types.engine_name import BuildName
from llmctl.types.listener import SilentListener
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, EngineInfo, Machine, Memory
from llmctl.types.plan import Want
from llmctl.types.policy import Policy
from llmctl.workspace import choose, situation
from llmctl.workspace.engine_builds import BuildOffer, offer
from llmctl.workspace.setup import work
from llmctl.workspace.setup.steps import Stage
from llmctl.workspace.situation import Situation
from tests.fakes.chat_server import DONE, ChatServer, Handler, data, event, status, stream

pytestmark = pytest.mark.usefixtures("measured", "hub_is_away")


@pytest.fixture
def hub_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_NO_INDEX", "1")


class Scripted:
    """Answers in order, then leaves by Ctrl-C."""

    is_person = True

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.asked: list[Stage] = []

    def ask(self, question: Question, heading: str, *, again: bool) -> str:
        self.asked.append(question.step)
        if not self.replies:
            raise KeyboardInterrupt
        return self.replies.pop(0)


def session(asker: Any, **changes: Any) -> SetupSession:
    options: dict[str, Any] = {"offer": None, "shell": "bash", "given": {}, **changes}
    here: Situation = options.pop("here", None) or situation.look(SilentListener(), measure=False)
    return SetupSession(Output("setup"), here, asker, options.pop("given"), **options)


@pytest.fixture(scope="module")
def replies() -> list[str]:
    """To the last question, without a download."""
    return ["code", "it", "patient", "skip", "skip", "skip", "none"]


@pytest.mark.parametrize("count", range(7))
def test_ctrl_c_at_each_question_leaves_what_was_done(count: int, replies: list[str]) -> None:
    asker = Scripted(*replies[:count])
    going = session(asker)
    with pytest.raises(KeyboardInterrupt):
        going.go()
    assert len(asker.asked) == count + 1
    loaded = settings.load()
    assert loaded.task == ("code" if count >= 1 else "chat")
    assert loaded.min_tok_s == (2 if count >= 3 else None)
    done = ["llmctl config set task code"][: count >= 1] + ["llmctl config set min_tok_s 2"][: count >= 3]
    assert going.done == done


def test_it_comes_to_its_end_and_says_how_it_goes_without_questions(replies: list[str]) -> None:
    asker = Scripted(*replies)
    going = session(asker)
    going.go()
    assert asker.asked == [
        Stage.TASK,
        Stage.LANGUAGE,
        Stage.LIMITS,
        Stage.MODEL,
        Stage.SERVER,
        Stage.TEXTS,
        Stage.EXTRAS,
    ]
    assert going.as_one_command == "llmctl setup --yes --task code --lang it --limits patient --extras none"


def test_going_back_and_asking_why_and_answers_that_can_not_be(capsys: pytest.CaptureFixture[str]) -> None:
    asker = Scripted("cod", "?", "code", "back", "chat", "klingon!")
    going = session(asker)
    with pytest.raises(KeyboardInterrupt):
        going.go()
    assert asker.asked == [Stage.TASK] * 3 + [
        Stage.LANGUAGE,
        Stage.TASK,
        Stage.LANGUAGE,
        Stage.LANGUAGE,
    ]
    said = capsys.readouterr().err
    assert "did you mean code?" in said and "Models differ in what they are good at" in said
    assert settings.load().task == "chat"


def test_where_nothing_fits_a_server_is_what_is_left() -> None:
    asker = Scripted("chat", "", "1kB", "skip", "skip", "none")
    with pytest.raises(NothingFitsError, match="1 kB") as caught:
        session(asker).go()
    assert asker.asked == [
        Stage.TASK,
        Stage.LANGUAGE,
        Stage.LIMITS,
        Stage.SERVER,
        Stage.TEXTS,
        Stage.EXTRAS,
    ]
    assert caught.value.hint is not None and "llmctl endpoint add" in caught.value.hint


def test_another_limit_lets_models_be_offered_again() -> None:
    asker = Scripted("chat", "", "1kB", "back", "usual")
    with pytest.raises(KeyboardInterrupt):
        session(asker).go()
    assert asker.asked[-1] is Stage.MODEL


@pytest.mark.parametrize("language", ["", "it"])
def test_without_a_network_the_starter_is_offered(language: str, capsys: pytest.CaptureFixture[str]) -> None:
    offered: list[Sequence[str]] = []

    class Watching(Scripted):
        def ask(self, question: Question, heading: str, *, again: bool) -> str:
            if question.step is Stage.MODEL:
                offered.append(question.names)
            return super().ask(question, heading, again=again)

    asker = Watching("chat", language, "usual", "best")
    with pytest.raises(KeyboardInterrupt):
        session(asker).go()
    assert "can't be reached" in capsys.readouterr().err
    assert "starter" not in offered[0] and offered[1][-1] == "starter"


def test_a_model_is_picked_by_its_name_whatever_was_wished() -> None:
    """So that the command that is printed does the same at another time, when other models stand side by side."""
    here = situation.look(SilentListener(), measure=False)
    wanted = Want(language="it", max_download_bytes=1)
    fit = work.named(here, "smollm2-135m-instruct:Q4_1", wanted)
    assert choose.name_of(fit.candidate) == "smollm2-135m-instruct:Q4_1"
    with pytest.raises(NotFoundError):
        work.named(here, "smollm2-135m-instruct:Q9_9", wanted)


ABLE: dict[str, object] = {"data": [{"id": "m"}]}
USED = data({"choices": [], "usage": {"completion_tokens": 1}})


def server(handler: Handler) -> None:
    """Lists one model, and answers with a word."""
    body = handler.server.received[-1].body  # type: ignore[attr-defined]
    if not body:
        status(200, ABLE)(handler)
    else:
        assert json.loads(body)["max_tokens"] <= 64, "nothing of the user's is sent"
        stream(event("1 "), event(finish="stop"), data({"choices": [], "usage": {"completion_tokens": 1}}), DONE)(
            handler
        )


@pytest.mark.parametrize("policy", [Policy.PREFER_LOCAL, Policy.LOCAL_ONLY])
def test_a_server_is_tried_and_added_with_its_policy(policy: Policy) -> None:
    with ChatServer(server) as there:
        asker = Scripted("skip", "skip", "skip", "skip", there.url, "", policy, "skip", "none")
        going = session(asker)
        going.go()
    loaded = settings.load()
    assert [(endpoint.name, endpoint.model) for endpoint in loaded.endpoints] == [("home", "m")]
    assert loaded.policy is policy
    assert f"llmctl endpoint add home {there.url}" in going.done


def test_a_server_that_refuses_the_key_is_not_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFICE_KEY", "sk-wrong")
    with ChatServer(status(401)) as there:
        asker = Scripted("skip", "skip", "skip", "skip", f"{there.url} m", "OFFICE_KEY", "prefer-local")
        with pytest.raises(KeyboardInterrupt):
            session(asker).go()
    assert asker.asked[-1] is Stage.SERVER, "the address or the key is what is wrong"
    said = capsys.readouterr()
    assert "refuses the key" in said.err + said.out or "401" in said.err + said.out
    assert "sk-wrong" not in said.err + said.out
    assert settings.load().endpoints == () and settings.load().policy is Policy.LOCAL_ONLY


def test_what_an_option_said_is_asked_after_an_error_and_after_going_back() -> None:
    options = {Stage.TASK: "code", Stage.SERVER: "http://127.0.0.1:9 m"}
    asker = Scripted("back", "chat", "skip", "skip", "skip", "", "prefer-local")
    with pytest.raises(KeyboardInterrupt):
        session(asker, given=options).go()
    assert asker.asked[:3] == [Stage.LANGUAGE, Stage.TASK, Stage.LANGUAGE]
    assert asker.asked[-3:] == [Stage.KEY, Stage.POLICY, Stage.SERVER]


@pytest.mark.parametrize(
    ("reply", "error"), [(status(401), AccessError), (status(200, ABLE), UnreachableError)], ids=["key", "gone"]
)
def test_without_a_person_what_is_wrong_with_the_server_ends_it(
    reply: Callable[[Handler], None], error: type[Exception]
) -> None:
    class Defaults(Scripted):
        is_person = False

        def ask(self, question: Question, heading: str, *, again: bool) -> str:
            return "" if question.step is Stage.MODEL else question.default

    with ChatServer(reply) as there:
        address = there.url if error is AccessError else "http://127.0.0.1:9"
        with pytest.raises(error):
            session(Defaults(), given={Stage.SERVER: address}).go()
    assert settings.load().endpoints == ()


def test_the_second_time_only_what_is_left_is_offered() -> None:
    settings.set_values({"keep_alive": "5m"})
    asker = Scripted(*["skip"] * 6, "completion")
    session(asker).go()
    again = Scripted(*["skip"] * 6)
    session(again).go()
    assert asker.asked[-1] is Stage.EXTRAS and Stage.EXTRAS not in again.asked


def test_own_texts_are_indexed(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "oven.md").write_text("The oven takes 12 minutes.", "utf-8")
    asker = Scripted(*["skip"] * 5, str(tmp_path / "nothing"), str(notes), "none")
    going = session(asker)
    going.go()
    assert asker.asked[-3:] == [Stage.TEXTS, Stage.TEXTS, Stage.EXTRAS], "a folder that is not there is asked for again"
    assert going.done == [f"llmctl index add {notes}"]


GIB = 1 << 30
OLD_LAPTOP = Machine(Memory(4 * GIB, 3 * GIB, bandwidth_bytes_per_s=8e9), Cpu("i5-520M", "x86_64", 2, 4, 2, ("SSE3",)))
PI = Machine(Memory(8 * GIB, 7 * GIB), Cpu("Cortex-A76", "aarch64", 4, 4, 4, ("NEON",)), board="Raspberry Pi 5")
PHONE = Machine(Memory(6 * GIB, GIB // 2), Cpu("Cortex-A55", "aarch64", 8, 8, 8, ("NEON",), performance_cores=4))
CARD = Accelerator("0000:01:00.0", "Radeon RX 7800 XT", "AMD", AcceleratorKind.DISCRETE, 16 * GIB, None, usable=True)
GAMING = replace(PI, board=None, accelerators=(CARD,))
UNUSED = replace(PI, board=None, accelerators=(replace(CARD, usable=False, why="built for CPU only"),))
ENGINE = EngineInfo("llama-cpp-python", "0.3.36", None, usable=True)
BROKEN = EngineInfo("llama-cpp-python", None, None, why="this build is for another CPU")

OFFER = BuildOffer(BuildName.CUDA, "GeForce RTX 4060 can't be used.", "pip install …", "NVIDIA's driver", None)


@pytest.mark.parametrize(
    ("offer", "words"),
    [
        (OFFER, ["GeForce RTX 4060 can't be used", "llmctl engine install cuda", "pip install …", "seconds", "driver"]),
        (replace(OFFER, why_compiled="this is aarch64"), ["5 to 15 minutes", "because this is aarch64"]),
    ],
)
def test_the_build_for_the_card_is_shown_and_not_run(offer: BuildOffer, words: list[str]) -> None:
    asked = questions.build(offer)
    screen = "\n".join(questions.lines(asked, 80, ""))
    assert all(word in screen for word in words)
    assert asked.default == "later"
    asker = Scripted("later")
    with pytest.raises(KeyboardInterrupt):
        session(asker, offer=offer).go()
    assert asker.asked == [Stage.BUILD, Stage.TASK]


@pytest.mark.parametrize(
    ("engine", "cards", "name"),
    [
        (ENGINE, (), None),
        (ENGINE, (CARD,), None),
        (ENGINE, (replace(CARD, usable=False),), BuildName.VULKAN),
        (ENGINE, (replace(CARD, usable=False, driver="vfio-pci"),), None),
        (BROKEN, (), BuildName.CPU),
        (BROKEN, (replace(CARD, usable=False),), BuildName.CPU),
    ],
)
def test_which_build_is_offered(engine: EngineInfo, cards: tuple[Accelerator, ...], name: BuildName | None) -> None:
    offered = offer(replace(PI, accelerators=cards, os="Linux 6.8"), [engine])
    assert (None if offered is None else offered.name) == name


def test_where_no_engine_runs_nothing_is_asked_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    here = replace(situation.look(SilentListener(), measure=False), engines=(BROKEN,))
    with pytest.raises(EngineError, match="no model can run here: this build is for another CPU") as caught:
        work.require_engine(here)
    assert caught.value.hint == "llmctl engine install cpu"


@pytest.mark.parametrize(
    ("machine", "engine", "is_termux", "words"),
    [
        (OLD_LAPTOP, ENGINE, False, ["has no AVX2", "feeds the engine at 8.0 GB/s"]),
        (OLD_LAPTOP, BROKEN, False, ["Nothing can run here yet: this build is for another CPU"]),
        (PI, ENGINE, False, ["Raspberry Pi 5 · Cortex-A76", "slows down when it gets hot", "SD card"]),
        (PHONE, ENGINE, True, ["4 of them fast", "only the very smallest models fit", "pkg install clang cmake ninja"]),
        (GAMING, ENGINE, False, ["Radeon RX 7800 XT computes"]),
        (UNUSED, ENGINE, False, ["Radeon RX 7800 XT is not used: built for CPU only"]),
    ],
)
def test_what_a_machine_means(machine: Machine, engine: EngineInfo, is_termux: bool, words: list[str]) -> None:
    said = "\n".join(meaning(machine, [engine], is_termux=is_termux))
    assert all(word in said for word in words), said
    assert ("AVX2" in said) == (machine is OLD_LAPTOP)


@pytest.mark.parametrize("name", ["raspberry-pi-5-8gb", "mini-pc-n100-16gb"])
def test_a_described_machine_is_shown_and_nothing_is_set(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["setup", "--machine", name, "--limits", "3GB"]) == 0
    said = capsys.readouterr().err
    assert all(label in said for label in ("download", "speed", "quality", "open", "licence", "gives up"))
    assert max(map(len, said.splitlines())) <= 80
    assert not paths.config_file().exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "cod"], "did you mean code?"),
        (["--lang", "klingon!"], "is no language"),
        (["--limits", "much"], "nor a size like 5GB"),
        (["--server", "llm.example"], "must begin with https://"),
        (["--key", "OFFICE_KEY"], "--server names none"),
    ],
)
def test_options_that_can_not_be(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["setup", "--yes", *arguments]) == 2
    assert words in capsys.readouterr().err
