"""The questions of the set-up, in words: what is asked, what may be answered, and what each answer means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from llmctl import units
from llmctl.cli.table import wrapped
from llmctl.types.policy import Policy
from llmctl.workspace.setup import answers
from llmctl.workspace.setup.steps import Stage

if TYPE_CHECKING:
    from llmctl.types.plan import Fit
    from llmctl.workspace.engine_builds import BuildOffer
    from llmctl.workspace.setup.work import TaskChoice

FIRST_PROMPT = "Why is the sky blue?"
NOW, LATER = "now", "later"
BACK, SKIP, WHY = "back", "skip", "?"
KEYS = "Enter: what is in [ ] · back · skip · ? why · Ctrl-C: leave, what is done stays"

TASKS = {
    "chat": "talk, questions, writing",
    "code": "programs: explain, write, mend",
    "agent": "a program that changes files by itself, turn by turn",
    "reasoning": "hard questions, thought through before the answer",
    "summarise": "long texts in few words",
    "translate": "from one language into another",
    "extract": "facts out of texts, as JSON",
}

WHY_ASKED = {
    Stage.BUILD: "llama.cpp is built for one kind of hardware. The build that was installed can't use all that is "
    "here; another one lies beside it and is used once it has answered. `llmctl engine use installed` goes back.",
    Stage.TASK: "Models differ in what they are good at, and tasks in what they need: an answer to talk to has to come "
    "as fast as you read, a summary may take a minute. It becomes the setting task.",
    Stage.LANGUAGE: "Most models know English best. With another language, those come into question that know it by "
    "their publisher's word or by a test.",
    Stage.LIMITS: "A better model is a larger file, and writes more slowly. `patient` also offers models that write at "
    "a quarter of the speed that is usual for the task, and becomes the setting min_tok_s.",
    Stage.MODEL: "`best` has the highest quality that is fast enough, `fastest` writes fastest, `balanced` lies "
    "between. How the numbers are made: `llmctl plan --explain`, and the page on numbers.",
    Stage.PROMPT: "The first answer shows whether the speed is what was promised. Nothing of it leaves this machine.",
    Stage.SERVER: "A machine of yours (your desktop, your company's server) can answer what is too large for this one. "
    "Any server that speaks OpenAI's protocol will do. Without one, no prompt ever leaves this machine.",
    Stage.KEY: "llmctl keeps where the key is, never the key: the name of a variable, or the path of a file that only "
    "you can read.",
    Stage.POLICY: "This is your consent. Before a prompt leaves, a line says where it goes and why; `llmctl receipts` "
    "lists what has left. What you name with -m, and all with --local, stays here whatever you choose.",
    Stage.TEXTS: "llmctl reads the folder once and keeps an index on this machine; questions are then answered from "
    "your texts, with the place where it stands. Nothing leaves this machine.",
    Stage.EXTRAS: "A model that stays loaded answers at once, and holds its memory meanwhile. Completion is one file, "
    "from which your shell knows llmctl's commands, options and models.",
}


class AnswerChoice(Struct, frozen=True):
    name: str
    words: str


class Question(Struct, frozen=True):
    """``before`` are lines above the question, broken between words where they don't begin with blanks. Without
    ``choices`` any text may be typed. ``default`` is what Enter means, empty for skipping."""

    step: Stage
    title: str
    before: tuple[str, ...] = ()
    choices: tuple[AnswerChoice, ...] = ()
    default: str = ""

    @property
    def names(self) -> list[str]:
        return [choice.name for choice in self.choices]


def build(offer: BuildOffer) -> Question:
    how = "It comes as a wheel: seconds, once it is fetched."
    if offer.why_compiled is not None:
        how = f"It is compiled here, 5 to 15 minutes and more, because {offer.why_compiled}."
    before = (
        f"{offer.lack} The build that can:",
        f"    {offer.install}",
        "which lets pip do:",
        f"    {offer.command}",
        how,
        *([f"It needs {offer.needs}."] if offer.needs else []),
    )
    choices = (AnswerChoice(LATER, "go on with what is here"), AnswerChoice(NOW, "install it now"))
    return Question(Stage.BUILD, "The engine's build", before, choices, LATER)


def task(tasks: Sequence[TaskChoice], current: str) -> Question:
    choices = tuple(AnswerChoice(each.name, TASKS.get(each.name, each.because)) for each in tasks)
    return Question(Stage.TASK, "What is the model for", choices=choices, default=current)


def language(suggested: str | None) -> Question:
    before = ("A code or a name, as it or Italian; for English alone just skip.",)
    return Question(Stage.LANGUAGE, "Which language beside English", before, default=suggested or "")


def limits(free_bytes: int | None, floor_tok_s: float) -> Question:
    room = "" if free_bytes is None else f"; {units.size(free_bytes)} is free"
    slow = units.tok_s(floor_tok_s * answers.PATIENT_SHARE)
    choices = (
        AnswerChoice(answers.USUAL, f"whatever fits{room}, writing at {units.tok_s(floor_tok_s)} tok/s or faster"),
        AnswerChoice(answers.SMALL, f"downloads of at most {units.size(answers.SMALL_BYTES)}"),
        AnswerChoice(answers.PATIENT, f"better answers, even at {slow} tok/s"),
    )
    before = ("A size, as 5GB, bounds the download.",)
    return Question(Stage.LIMITS, "How much disk and patience", before, choices, answers.USUAL)


def model(before: Sequence[str], choices: Sequence[AnswerChoice]) -> Question:
    return Question(Stage.MODEL, "Which one is fetched", tuple(before), tuple(choices), choices[0].name)


def file(name: str, fit: Fit, also: str = "") -> AnswerChoice:
    """A model that may be fetched."""
    size = "is here" if fit.candidate.path is not None else units.size(fit.download_bytes)
    return AnswerChoice(name, f"{fit.candidate.model.name} {fit.candidate.artifact.quant}, {size}{also}")


def prompt() -> Question:
    return Question(Stage.PROMPT, "Ask it something", default=FIRST_PROMPT)


def server(names: Sequence[str], default: str = "") -> Question:
    already = f" You have {', '.join(names)} already." if names else ""
    before = (
        "A server of your own can answer what this machine can't. Adding one is your consent to send prompts there; "
        f"it is asked when. Without one every prompt stays here.{already}",
        "Its address, as https://llm.example.internal, and a model's name behind it if it has several.",
    )
    return Question(Stage.SERVER, "A server of your own", before, default=default)


def key() -> Question:
    before = ("The name of the environment variable that holds it, as OFFICE_KEY, or a file's path. None: skip.",)
    return Question(Stage.KEY, "Where is its key", before)


def policy() -> Question:
    choices = (
        AnswerChoice(Policy.PREFER_LOCAL, "when no model fits here, or the one that llmctl chose fails"),
        AnswerChoice(Policy.PREFER_REMOTE, "always, and this machine answers when the server can't be reached"),
        AnswerChoice(Policy.LOCAL_ONLY, "never, until you say otherwise"),
    )
    return Question(Stage.POLICY, "When may prompts go there", choices=choices, default=Policy.PREFER_LOCAL)


def texts() -> Question:
    before = ("A folder of your notes, documents or programs, to ask questions about. None: skip.",)
    return Question(Stage.TEXTS, "Own texts", before)


def extras(offered: Sequence[str], memory_bytes: int | None, shell: str | None) -> Question:
    held = "" if memory_bytes is None else f", and holds {units.size(memory_bytes)} meanwhile"
    words = {
        answers.BOTH: "both of these",
        answers.KEEP_ALIVE: f"the model stays loaded for 5 minutes after an answer{held}",
        answers.COMPLETION: f"completion for {shell}",
        answers.NONE: "neither" if len(offered) > 1 else "no",
    }
    names = [*([answers.BOTH] if len(offered) > 1 else []), *offered, answers.NONE]
    choices = tuple(AnswerChoice(name, words[name]) for name in names)
    default = answers.COMPLETION if answers.COMPLETION in offered else answers.NONE  # which takes no memory
    return Question(Stage.EXTRAS, "What else", choices=choices, default=default)


def lines(question: Question, columns: int, heading: str) -> Iterator[str]:
    """The question as it stands on a screen, without the line on which one answers."""
    yield ""
    yield f"{heading}{question.title}"
    for line in question.before:
        yield wrapped(line, columns, first="  ", indent="  ") if not line.startswith("  ") else line
    width = max((len(choice.name) for choice in question.choices), default=0)
    for number, choice in enumerate(question.choices, 1):
        before = f"  {number}  {choice.name:<{width}}  "
        yield wrapped(choice.words, columns, first=before, indent=" " * len(before))
