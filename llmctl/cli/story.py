"""What a person is told of an answer while it comes, and what it took."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, assert_never

from llmctl import units
from llmctl.cli.output import Output

if TYPE_CHECKING:
    from llmctl.cli.held import HeldBack
    from llmctl.types.answer import Answer
    from llmctl.types.endpoint import Endpoint
    from llmctl.types.engine import LoadedEngine
    from llmctl.types.event import Event
    from llmctl.types.listener import Progress, TellShare
    from llmctl.types.plan import Fit

WHOLE_ENDS = (None, "stop", "end_turn", "eos", "stop_sequence", "tool_calls", "function_call")
BeforeLeaving = Callable[["Endpoint", str], None]
"""Called with the server that a prompt is about to leave for, and its host. Raises PolicyError where it may not."""


class Story:
    """The Listener of one answer: what a person is told goes to stderr, the answer's text to stdout."""

    def __init__(
        self, out: Output, *, limited: bool, stats: bool = False, before_leaving: BeforeLeaving | None = None
    ) -> None:
        """``limited``: the user asked for an answer of a certain length, so that its end is no surprise. ``stats``:
        all figures are shown at the end. ``before_leaving`` is asked first where the prompt is about to leave."""
        from llmctl.workspace.ask import PartialAnswer

        self.out = out
        self._limited = limited
        self._stats = stats
        self._before_leaving = before_leaving
        self._is_named = False
        self.so_far = PartialAnswer()
        self._thinking = False
        self._held: HeldBack | None = None
        self.endpoint: str | None = None  # the server that answers, None for this machine

    @property
    def interactive(self) -> bool:
        return self.out.interactive

    def note(self, text: str) -> None:
        self.out.note(text)

    def warn(self, text: str) -> None:
        self.out.warn(text)

    def confirm(self, question: str, *, yes: bool, by_default: bool = True) -> bool:
        return self.out.confirm(question, yes=yes, by_default=by_default)

    def progress(self, label: str, *, streams: bool = False, resumes: bool = True) -> AbstractContextManager[Progress]:
        return self.out.progress(label, streams=streams, resumes=resumes)

    def loading(self, fit: Fit) -> AbstractContextManager[TellShare]:
        from llmctl.cli.loading import load_progress

        return load_progress(self.out, f"{fit.candidate.model.id} {fit.candidate.artifact.quant}")

    def loaded(self, fit: Fit, engine: LoadedEngine) -> None:
        if self._is_named:
            return
        self._is_named = True
        candidate, by = fit.candidate, "" if fit.server is None else " (llama-server)"
        self.out.note(
            f"{candidate.model.id} {candidate.artifact.quant} · local{by} · {fit.context:,} tokens of context · "
            + ("already loaded" if engine.was_warm else f"loaded in {units.seconds(engine.load_s)}")
        )
        if not engine.has_chat_template:
            self.out.warn("this is a base model without a chat template: it continues your text")

    def leaving(self, endpoint: Endpoint, host: str, reason: str) -> None:
        if self._before_leaving is not None:
            self._before_leaving(endpoint, host)
        self.endpoint = endpoint.name
        if self.so_far.text:
            self._goes_on()
        else:
            self._held = self._hold(endpoint)
        self.out.must_say(f"→ {endpoint.name} ({host}, {endpoint.model}): {reason}")
        if endpoint.readers:
            self.out.must_say(f"  who can read it there: {endpoint.readers}")

    def _hold(self, endpoint: Endpoint) -> HeldBack | None:
        from llmctl.workspace.servers import may_begin_with_thoughts

        may_think = may_begin_with_thoughts(endpoint)
        if may_think is False:
            return None
        from llmctl.cli.held import PIPE_S, SOON_S, HeldBack

        return HeldBack(self.out.piece, PIPE_S if may_think and not sys.stdout.isatty() else SOON_S)

    def _goes_on(self) -> None:
        """What has come stays, and what follows is written behind it; on a terminal the notice gets its own line."""
        if self._held is not None:
            self._held.release()
        self._held = None
        if sys.stdout.isatty():
            self.out.must_say("")

    def staying(self, reason: str) -> None:
        self.out.warn(f"{reason}; this machine answers instead")

    def event(self, event: Event) -> None:
        from llmctl.types.event import EngineNote, Finished, Reasoning, Text, ThoughtsSoFar, ToolCall

        match event:
            case EngineNote(text):
                self.out.warn(text)
            case ThoughtsSoFar():
                self._were_thoughts()
            case Reasoning(text):
                self._thinking = True
                self.out.thought(text)
            case Text(text):
                self._end_thought()
                (self._held.add if self._held else self.out.piece)(text)
            case ToolCall() | Finished():  # no tool is offered; `finished` tells the end
                pass
            case _:
                assert_never(event)

    def _were_thoughts(self) -> None:
        """What came as text so far: it goes to stderr if it isn't on stdout by now."""
        text = self._held.take() if self._held else None
        if text is not None:
            self._thinking = True
            self.out.thought(text)
        elif not self.out.as_json:
            self.out.warn("what was written so far were the model's thoughts: their beginning isn't marked")

    def _end_thought(self) -> None:
        if self._thinking:
            self._thinking = False
            self.out.thought("\n")

    def end_line(self) -> None:
        """A final newline, so that what follows does not stand on the last line of the answer or the thoughts."""
        self._end_thought()
        if self._held is not None:
            self._held.release()
        self.out.end_pieces()

    @property
    def has_receipt(self) -> bool:
        """Whether there is something to account for although there is no answer: text, or a prompt that left."""
        return bool(self.so_far.text) or self.so_far.left is not None

    def receipt(self, finish_reason: str | None) -> dict[str, object]:
        text = "".join(self.so_far.text)
        return {"text": text, "left_machine": self.so_far.left, "finish_reason": finish_reason}

    def stopped(self) -> None:
        self.end_line()
        if self.has_receipt:
            self.out.data(self.receipt("interrupted"))
        self.out.note("stopped")

    def finished(self, answer: Answer) -> None:
        self.ended(answer)
        self.sum_up(answer)
        if self._stats:
            for line in figures(answer):
                self.out.note(line)
        self.out.data(answer)

    def ended(self, answer: Answer) -> None:
        """The end of the text, and a warning where it isn't the end that the model wanted."""
        self.end_line()
        if not answer.text:
            self.out.warn("the model answered nothing")
        if (warning := _early_end(answer, limited=self._limited)) is not None:
            self.out.warn(warning)

    def sum_up(self, answer: Answer) -> None:
        """One line: how long and how fast the answer was."""
        from llmctl.types.plan import Basis

        timings, usage = answer.timings, answer.usage
        parts = [f"{units.count(usage.completion_tokens)} tokens", f"{units.tok_s(timings.decode_tok_s)} tok/s"]
        if answer.predicted is not None:
            pace = units.tok_s(answer.predicted.decode_tok_s)
            guess = answer.predicted.basis is Basis.MODELLED
            parts[1] += f" (guessed {pace}: llmctl doctor measures)" if guess else f" (promised {pace})"
        self.out.note(" · ".join([*parts, f"first token {units.seconds(timings.first_token_s)}"]))


def _early_end(answer: Answer, *, limited: bool) -> str | None:
    """Why the answer ended before it was whole, in words; None where it is, or was as long as was asked for."""
    from llmctl.types.endpoint import Side

    reason, is_remote = answer.finish_reason, answer.route.side is Side.REMOTE
    if reason == "length":
        if limited:
            return None
        if is_remote:
            return "the answer was cut off at the server's limit (-n NUMBER asks for more tokens, if it gives them)"
        return "the answer was cut off: the context is used up (--context takes more)"
    if reason == "repetition":
        return "the answer was cut off: it had begun to repeat itself for ever (-n TOKENS lets it go on)"
    if reason in WHOLE_ENDS or not is_remote:
        return None
    if reason == "refusal":
        return "the model refused to answer"
    if reason == "content_filter":
        return "the answer was cut off by the server's content filter"
    return f"the server ended the answer: {reason}"


def figures(answer: Answer) -> list[str]:
    """Tokens, rates, times and memory of an answer, one line each for a person."""
    timings, usage, route = answer.timings, answer.usage, answer.route
    where = "this machine" if route.endpoint is None else route.endpoint
    lines = [
        " · ".join((" ".join(filter(None, (route.model, route.quant))), where)),
        f"prompt  {units.count(usage.prompt_tokens)} tokens, read at {units.tok_s(timings.prefill_tok_s)} tok/s",
        f"answer  {units.count(usage.completion_tokens)} tokens, written at {units.tok_s(timings.decode_tok_s)} tok/s",
        f"first token after {units.seconds(timings.first_token_s)}, all in {units.seconds(timings.total_s)}",
    ]
    if answer.cost is not None:
        lines.append(f"cost    {answer.cost:.6f} by the prices of {where}")
    if timings.drafted_tokens:
        drafted, accepted = units.count(timings.drafted_tokens), units.count(timings.accepted_tokens)
        lines.append(f"guessed {drafted} tokens ahead, {accepted} of them rightly")
    if timings.load_s is not None:
        lines.append(f"model loaded in {units.seconds(timings.load_s)}")
    if answer.measured is not None and answer.predicted is not None:
        measured = (answer.measured.anonymous_bytes or 0) + (answer.measured.device_bytes or 0)
        lines.append(f"memory  {units.size(measured)} used, {units.size(answer.predicted.must_fit_bytes)} planned")
    return lines
