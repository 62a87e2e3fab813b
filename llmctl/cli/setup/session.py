"""A set-up as it goes on: asks the step that is next, does what was answered, and says what was done."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from llmctl.cli.output import Output
from llmctl.cli.setup import questions
from llmctl.cli.setup.asking import Asker, columns
from llmctl.cli.setup.questions import LATER, WHY_ASKED, Question
from llmctl.cli.table import wrapped
from llmctl.errors import EngineError, LlmctlError, NetworkError, NothingFitsError, OfflineError, UsageError
from llmctl.shell import command
from llmctl.types.plan import Fit, Want
from llmctl.types.policy import Policy
from llmctl.workspace import choose, configuration, endpoint_key, user_settings
from llmctl.workspace.setup import answers, picks, steps, work
from llmctl.workspace.setup.steps import Stage
from llmctl.workspace.setup.work import SetupWishes

if TYPE_CHECKING:
    from llmctl.types.finding import Check
    from llmctl.workspace.engine_builds import BuildOffer
    from llmctl.workspace.setup.picks import Pick
    from llmctl.workspace.situation import Situation

FIRST_ANSWER_TOKENS = 200  # enough to see that it works and how fast
STARTER = "starter"
OPTIONS: Mapping[Stage, str] = {
    Stage.BUILD: "--build",
    Stage.TASK: "--task",
    Stage.LANGUAGE: "--lang",
    Stage.LIMITS: "--limits",
    Stage.MODEL: "--pick",
    Stage.PROMPT: "--prompt",
    Stage.SERVER: "--server",
    Stage.KEY: "--key",
    Stage.POLICY: "--policy",
    Stage.TEXTS: "--texts",
    Stage.EXTRAS: "--extras",
}
"""The option that answers a step's question."""


class SetupSession:
    """``given`` are answers by options. ``done`` are the commands that would do what was done."""

    def __init__(
        self,
        out: Output,
        situation: Situation,
        asker: Asker,
        given: Mapping[Stage, str],
        *,
        offer: BuildOffer | None,
        shell: str | None,
    ) -> None:
        self._out, self._situation, self._asker, self._given = out, situation, asker, dict(given)
        self._offer, self._shell = offer, shell
        self._extras = work.extras(situation, shell)
        self._course = steps.begun(work.possible_steps(offer, self._extras))
        self._picks: list[Pick] = []
        self._wanted = Want()
        self._starter: Fit | None = None
        self._is_on_screen = False  # the question that is asked now
        self._fit: Fit | None = None
        self._unable: NothingFitsError | EngineError | None = None
        self.done: list[str] = []

    @property
    def as_one_command(self) -> str:
        """The command that would do it all without a question."""
        words = ["llmctl", "setup", "--yes"]
        for step, answer in self._course.answers.items():
            words += [OPTIONS[step], answer]
        return command(*words)

    def go(self) -> None:
        """To the end. Raises NothingFitsError or EngineError there where no model can answer and no server was added;
        and what a step raises where nobody can be asked again."""
        while (step := self._course.step) is not None:
            try:
                question = self._question(step)
            except (NothingFitsError, EngineError) as error:
                self._pass_over(error)
                continue
            self._take(step, self._reply(step, question))
        if self._unable is not None and Stage.POLICY not in self._course.answers:
            raise self._unable

    def _reply(self, step: Stage, question: Question) -> str:
        if step in self._given:
            self._out.note(f"\n{question.title}: {self._given[step]} ({OPTIONS[step]})")
            return self._given[step]
        heading = "" if step in steps.NOT_COUNTED else f"{self._course.number}/{self._course.most}  "
        return self._asker.ask(question, heading, again=self._is_on_screen)

    def _take(self, step: Stage, reply: str) -> None:
        """Does what was answered; after an error the same question comes again, if somebody can be asked."""
        self._is_on_screen = reply == questions.WHY
        match reply.casefold():
            case questions.BACK:
                self._course = steps.back(self._course)
                self._ask_again(self._course.step)
            case "" | questions.SKIP:
                self._course = steps.skipped(self._course)
            case questions.WHY:
                self._out.note(wrapped(WHY_ASKED[step], columns(), first="  ", indent="  "))
            case _:
                self._carry_out(step, reply)

    def _carry_out(self, step: Stage, reply: str) -> None:
        try:
            meant = self._effect(step)(reply)
        except LlmctlError as error:
            if not self._asker.is_person:
                raise
            self._ask_again(step)
            self._is_on_screen = isinstance(error, UsageError) and step is not Stage.POLICY
            if self._is_on_screen:
                self._out.note(f"  {error.message}")
            else:
                self._out.failed(error)
            if step is Stage.MODEL and isinstance(error, NetworkError) and not isinstance(error, OfflineError):
                self._starter = choose.starter_for(self._situation, self._wanted)
            if step is Stage.POLICY:  # what is wrong is the address or the key
                self._course = steps.back_to(self._course, Stage.SERVER)
                self._ask_again(Stage.SERVER, Stage.KEY)
        else:
            self._course = steps.answered(self._course, meant)

    def _ask_again(self, *asked: Stage | None) -> None:
        """What options said of these steps counts no longer."""
        self._given = {step: text for step, text in self._given.items() if step not in asked}

    def _pass_over(self, error: NothingFitsError | EngineError) -> None:
        """Goes on without an answer of this machine's: a server may give one."""
        self._out.note("")
        self._out.warn(error.message)
        if isinstance(error, NothingFitsError):
            self._out.note("  A server of yours can answer; or go back, for another task, more disk or more patience.")
        self._unable = error
        self._course = steps.passed_over(self._course)

    def _question(self, step: Stage) -> Question:
        """Raises NothingFitsError where there is no model to offer, EngineError where none can answer."""
        settings, situation = self._situation.settings, self._situation
        match step:
            case Stage.BUILD:
                assert self._offer is not None, "only then is it asked"
                return questions.build(self._offer)
            case Stage.TASK:
                return questions.task(work.tasks(situation), settings.task)
            case Stage.LANGUAGE:
                return questions.language(answers.language_of_locale(os.environ))
            case Stage.LIMITS:
                disk = situation.machine.disk
                floor = work.floor_tok_s(situation, self._task)
                return questions.limits(None if disk is None else disk.free_bytes, floor)
            case Stage.MODEL:
                return self._models()
            case Stage.PROMPT:
                work.require_engine(situation)
                return questions.prompt()
            case Stage.SERVER:
                names = [endpoint.name for endpoint in settings.endpoints]
                return questions.server(names, self._course.answers.get(Stage.SERVER, ""))
            case Stage.KEY:
                return questions.key()
            case Stage.POLICY:
                return questions.policy()
            case Stage.TEXTS:
                return questions.texts()
            case Stage.EXTRAS:
                held = None if self._fit is None else self._fit.memory.must_fit_bytes
                return questions.extras(self._extras, held, self._shell)

    def _effect(self, step: Stage) -> Callable[[str], str]:
        """What carries an answer out, and returns it as it was meant."""
        effects: Mapping[Stage, Callable[[str], str]] = {
            Stage.BUILD: self._install_build,
            Stage.TASK: self._set_task,
            Stage.LANGUAGE: self._set_language,
            Stage.LIMITS: self._set_limits,
            Stage.MODEL: self._fetch,
            Stage.PROMPT: self._ask,
            Stage.SERVER: self._check_server,
            Stage.KEY: self._check_key,
            Stage.POLICY: self._add_server,
            Stage.TEXTS: self._index,
            Stage.EXTRAS: self._switch_on,
        }
        return effects[step]

    @property
    def _task(self) -> str:
        return self._course.answers.get(Stage.TASK, self._situation.settings.task)

    def _install_build(self, reply: str) -> str:
        from llmctl.workspace import engine, situation

        chosen = answers.option(reply, [LATER, questions.NOW])
        offer = self._offer
        if chosen == LATER or offer is None:
            return chosen
        engine.install_build(self._out, self._situation.settings, offer.name, yes=True)
        engine.use(offer.name, None, self._situation.settings)
        self._situation = situation.look(self._out, before=situation.shelf(self._out), every_kernel=True)
        self.done += [f"{offer.install} --yes", f"llmctl engine use {offer.name}"]
        return chosen

    def _set_task(self, reply: str) -> str:
        name = answers.option(reply, [task.name for task in work.tasks(self._situation)])
        if name != self._situation.settings.task:
            self._set("task", name)
        return name

    def _set_language(self, reply: str) -> str:
        from llmctl.workspace.names import languages

        return answers.language(reply, languages())

    def _set_limits(self, reply: str) -> str:
        limits = answers.limits(reply)
        if limits.is_patient:
            floor = work.floor_tok_s(self._situation, self._task) * answers.PATIENT_SHARE
            self._set("min_tok_s", f"{floor:g}")
        return {"1": answers.USUAL, "2": answers.SMALL, "3": answers.PATIENT}.get(reply, reply)

    def _models(self) -> Question:
        from llmctl.cli.setup.columns import LEGEND, side_by_side

        said = self._course.answers
        limits = answers.limits(said.get(Stage.LIMITS, answers.USUAL))
        made = work.offered(self._situation, SetupWishes(self._task, said.get(Stage.LANGUAGE), limits))
        self._unable, self._wanted, self._picks = None, made.wanted, picks.picks(made.plan)
        before = ["", *(f"  {line}" for line in side_by_side(self._picks, columns() - 2))]
        before.append(LEGEND)
        if made.present is not None:
            before.append(f"This machine is busy now: {made.present.load}. The speeds are those of a quiet one.")
        choices = [questions.file(pick.name, pick.fit) for pick in self._picks]
        if self._starter is not None and self._starter.candidate not in [pick.fit.candidate for pick in self._picks]:
            choices.append(questions.starter(STARTER, self._starter, said.get(Stage.LANGUAGE)))
        return questions.model(before, choices)

    def _fetch(self, reply: str) -> str:
        fits = {pick.name: pick.fit for pick in self._picks}
        if self._starter is not None:
            fits[STARTER] = self._starter
        is_named = ":" in reply
        fit = work.named(self._situation, reply, self._wanted) if is_named else fits[answers.option(reply, list(fits))]
        if self._asker.is_person:
            self._fit = work.fetched(self._out, self._situation, fit, self._wanted)
        else:  # where the hub can't be reached, the starter takes its place
            self._fit = choose.obtain(self._out, self._situation, fit, self._wanted, named=False, yes=True)
        label = choose.name_of(self._fit.candidate)
        self.done.append(command("llmctl", "pull", names=[label]))
        if not work.is_what_run_takes(self._situation, self._fit):
            self._out.note("  `llmctl run` takes another model that is here; this one:")
            self._out.unbroken(f"  {command('llmctl', 'run', '-m', label)}")
        return label  # which names the same model at any time

    def _ask(self, reply: str) -> str:
        from llmctl.cli.setup.first_answer import compared, first_answer

        assert self._fit is not None, "it is asked after the model is here"
        measured = first_answer(self._situation, self._fit, reply, FIRST_ANSWER_TOKENS)
        if measured is not None:
            self._out.note(compared(self._fit, measured))
        return reply

    def _check_server(self, reply: str) -> str:
        answers.server(reply)
        return reply.strip()

    def _check_key(self, reply: str) -> str:
        key = endpoint_key.reference(**answers.key_fields(reply))
        if key is not None:
            endpoint_key.checked(key)
        return reply

    def _add_server(self, reply: str) -> str:
        from llmctl.cli.doctor import finding

        policy = Policy(answers.option(reply, questions.policy().names))
        address, model = answers.server(self._course.answers[Stage.SERVER])
        said = self._course.answers.get(Stage.KEY)
        fields = {} if said is None else answers.key_fields(said)
        name = answers.server_name(address, [endpoint.name for endpoint in self._situation.settings.endpoints])

        def tell(check: Check) -> None:
            finding(self._out, check)

        self._out.note("")
        key = endpoint_key.reference(**fields)
        work.add_server(self._out, address, key, policy, tell, name=name, model=model)
        self._reload()
        options = [*(["--model", model] if model else [])]
        options += [word for field, text in fields.items() for word in (f"--{field.replace('_', '-')}", text or "")]
        self.done += [command("llmctl", "endpoint", "add", *options, names=[name, address])]
        self.done += [command("llmctl", "endpoint", "test", name), command("llmctl", "config", "set", "policy", policy)]
        self._out.note(f"  {name} is added, with the policy {policy}. What has left: llmctl receipts")
        return policy

    def _index(self, reply: str) -> str:
        from llmctl.cli import index

        folder = Path(reply).expanduser().absolute()
        index.add(folder)
        self._out.note("  Ask it:")
        asking = command("llmctl", "run", "--files", folder, names=["What do my notes say of …?"])
        self._out.unbroken(f"  {asking}")
        self.done.append(command("llmctl", "index", "add", names=[folder]))
        return str(folder)

    def _switch_on(self, reply: str) -> str:
        from llmctl.cli.completion import Shell, script
        from llmctl.workspace import completion_file

        held = None if self._fit is None else self._fit.memory.must_fit_bytes
        chosen = answers.option(reply, questions.extras(self._extras, held, self._shell).names)
        if chosen in (answers.KEEP_ALIVE, answers.BOTH):
            self._set("keep_alive", answers.STAYS)
        if chosen in (answers.COMPLETION, answers.BOTH) and self._shell is not None:
            installed = completion_file.install(self._shell, script(Shell(self._shell)))
            self._out.note(f"  {installed.file} is written; it works from the next {self._shell} on.")
            if installed.line is not None:
                self._out.note(f"  {installed.start_file} needs this line:")
                self._out.unbroken(f"  {installed.line}")
            self.done.append(f"llmctl completion install {self._shell}")
        return chosen

    def _set(self, name: str, value: str) -> None:
        changed = user_settings.set_value(name, value)
        self._out.note(f"  {name} = {value}, in {changed.file}")
        if changed.decided_by is not None:
            self._out.warn(f"{changed.decided_by} decides {name} here, and comes before your file")
        self.done.append(command("llmctl", "config", "set", name, value))
        self._reload()

    def _reload(self) -> None:
        self._situation = replace(self._situation, settings=configuration.load(self._out))
