"""Chat templates in their process: what they write, what mends them, and what they may not take."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from llmctl.engine.llama_cpp import template as templates
from llmctl.engine.llama_cpp.rendering import RenderedPrompt, TemplateError
from llmctl.engine.llama_cpp.template import Renderer

LOOP = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}<|assistant|>"
HI = [{"role": "user", "content": "hi"}]
BRIEF = [{"role": "system", "content": "be brief"}, *HI]


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    """One for all templates that it survives."""
    made = Renderer()
    yield made
    made.close()


@pytest.fixture
def fresh() -> Iterator[Renderer]:
    """One that the test may end."""
    made = Renderer()
    yield made
    made.close()


@pytest.fixture
def others() -> list[psutil.Process]:
    """The children of this process but for the one of ``fresh``."""
    return psutil.Process().children()


def render(
    renderer: Renderer, template: str, messages: list[dict[str, str]], *, has_chatml: bool = False
) -> RenderedPrompt:
    return renderer.render(template, messages, {"bos_token": "<s>"}, has_chatml=has_chatml)


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        (LOOP, "<|user|>hi<|assistant|>"),
        ("{{ bos_token }}" + LOOP, "<s><|user|>hi<|assistant|>"),
        ("{{ strftime_now('%Y')|length }}" + LOOP, "4<|user|>hi<|assistant|>"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "hi"),
        ("{% for m in messages %}{{ m.content }}{% break %}{% endfor %}", "hi"),
        ("{{ messages[0]|tojson }}", '{"role": "user", "content": "hi"}'),
        ("{% for p in messages[0].content %}{% if p.type == 'text' %}[{{ p.text }}]{% endif %}{% endfor %}", "[hi]"),
        ("{{ messages[0].content|upper }}", "HI"),
    ],
)
def test_what_they_write(renderer: Renderer, template: str, prompt: str) -> None:
    assert render(renderer, template, HI) == RenderedPrompt(prompt)


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + LOOP,
        "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}",
        "{% if messages[0].role != 'user' %}{{ raise_exception('roles must alternate') }}{% endif %}" + LOOP,
        "{{ {'user': messages[0].content}[messages[0].role] + '' }}",
    ],
)
def test_a_system_message_that_is_refused_or_left_out_stands_in_front(renderer: Renderer, template: str) -> None:
    made = render(renderer, template, BRIEF)
    assert "be brief\n\nhi" in made.text
    assert made.note is not None and "takes no system message" in made.note


def test_a_system_message_that_is_taken_stays(renderer: Renderer) -> None:
    assert render(renderer, LOOP, BRIEF) == RenderedPrompt("<|system|>be brief<|user|>hi<|assistant|>")


LATER = [*BRIEF, {"role": "system", "content": "now"}, {"role": "assistant", "content": "yes"}]
LATER += [{"role": "developer", "content": "then"}, {"role": "user", "content": "go on"}]
FIRST_ONLY = "{% for m in messages %}{% if m.role in ('system', 'developer') and not loop.first %}"
FIRST_ONLY += "{{ raise_exception('System message must be at the beginning.') }}{% endif %}{% endfor %}" + LOOP
NONE = "{% for m in messages %}{% if (m.role == 'user') != loop.index0 is even %}"
NONE += "{{ raise_exception('Roles must alternate') }}{% endif %}{% endfor %}" + LOOP


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        (FIRST_ONLY, "<|system|>be brief<|user|>hi\n\nnow<|assistant|>yes<|user|>then\n\ngo on<|assistant|>"),
        (NONE, "<|user|>be brief\n\nhi\n\nnow<|assistant|>yes<|user|>then\n\ngo on<|assistant|>"),
    ],
)
def test_a_system_message_in_the_middle_that_is_refused_is_said_by_the_user(
    renderer: Renderer, template: str, prompt: str
) -> None:
    """As coding agents send them; what stands before each stays as it was, or nothing read before could be used."""
    made = render(renderer, template, LATER)
    assert made.text == prompt and made.note is not None


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{- if .System }}{{ .System }}{{ end }}", "unexpected '.'"),
        ("{{ messages|from_json }}", "No filter named 'from_json'"),
        ("{% for m in messages %}", "Unexpected end of template"),
        ("chatml", "it leaves the prompt out"),
        ("", "it leaves the prompt out"),
        ("{{ tools|length }}" + LOOP, "has no len()"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}" + LOOP, "unsafe"),
        ("{% for i in range(1000000000) %}x{% endfor %}" + LOOP, "Range too big"),
        ("(" * 5000 + LOOP[:0] + "{{" + "(" * 5000, ""),
    ],
)
def test_a_broken_template_is_replaced_and_that_is_said(renderer: Renderer, template: str, reason: str) -> None:
    made = render(renderer, template, BRIEF)
    assert (made.text, made.is_plain) == ("be brief\n\nhi", True)
    assert made.note is not None and reason in made.note and "plain text" in made.note
    made = render(renderer, template, BRIEF, has_chatml=True)
    assert made.text == (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert not made.is_plain and made.note is not None and "ChatML" in made.note


BEGUN = [*HI, {"role": "assistant", "content": "one, two "}]
PARTS = "{% for m in messages %}<{{ m.role }}>{{ m.content[0].text | trim }}{% endfor %}<assistant>"


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        (LOOP, "<|user|>hi<|assistant|>one, two "),
        (LOOP.replace("{% endfor %}", "<|end|>\n{% endfor %}"), "<|user|>hi<|end|>\n<|assistant|>one, two "),
        (PARTS, "<user>hi<assistant>one, two "),
        ("{{- if .System }}", "hi" + "one, two "),
    ],
    ids=["as-it-is", "without-its-end", "trimmed-parts", "broken"],
)
def test_an_answer_that_was_begun_stands_at_the_end(renderer: Renderer, template: str, prompt: str) -> None:
    assert renderer.render(template, BEGUN, {}, has_chatml=False, continues=True).text == prompt


def test_a_begun_answer_without_a_template(renderer: Renderer) -> None:
    made = renderer.render("{{- if .System }}", BEGUN, {}, has_chatml=True, continues=True)
    assert made.text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\none, two "


def test_a_template_that_leaves_out_what_was_begun(renderer: Renderer) -> None:
    users = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    with pytest.raises(TemplateError, match="leaves out the answer that is to be gone on with"):
        renderer.render(users, BEGUN, {}, has_chatml=False, continues=True)


def test_what_a_template_itself_says_against_the_messages(renderer: Renderer) -> None:
    with pytest.raises(TemplateError, match=r"^refused: no more than\s+one word$"):
        render(renderer, "{{ raise_exception('no more than one word\\nat all') }}", HI)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 6000000000 }}",
        "{{ 'x'.center(2000000000) }}",
        "{{ '%2000000000d' % 1 }}",
        "{{ messages|tojson(indent=2000000000) }}",
        "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x * 2 %}{% endfor %}{{ ns.x }}",
        "{% for i in range(90000) %}{% for j in range(90000) %}{{ 'x' * (9999 + j) }}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_has_a_limit_of_memory(fresh: Renderer, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "DEADLINE_S", 60.0)  # beside neighbours, a quarter of a gigabyte may take its time
    with pytest.raises(TemplateError, match="needs more than 256 MB of memory"):
        render(fresh, template + LOOP, HI)
    assert render(fresh, LOOP, HI) == RenderedPrompt("<|user|>hi<|assistant|>")


@pytest.mark.parametrize("template", ["{{ 9**(9**9) }}", "{% set n = 8 + messages|length %}{{ n**(n**n) }}"])
def test_a_template_has_a_deadline(fresh: Renderer, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert templates.DEADLINE_S == 5
    monkeypatch.setattr(templates, "DEADLINE_S", 0.5)
    fresh.prepare(template)
    begun = time.monotonic()
    with pytest.raises(TemplateError, match=r"takes longer than 0\.5 s"):
        render(fresh, template + LOOP, HI)
    assert time.monotonic() - begun < 20
    monkeypatch.setattr(templates, "DEADLINE_S", 60.0)
    for _ in range(2):
        assert render(fresh, LOOP, HI) == RenderedPrompt("<|user|>hi<|assistant|>")


def test_a_process_that_somebody_killed_is_no_longer_asked(others: list[psutil.Process], fresh: Renderer) -> None:
    (process,) = set(psutil.Process().children()) - set(others)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(TemplateError):
        render(fresh, LOOP, HI)
    assert render(fresh, LOOP, HI).text


def test_it_leaves_nothing_behind(others: list[psutil.Process], fresh: Renderer) -> None:
    assert render(fresh, LOOP, HI).text
    fresh.close()
    assert psutil.Process().children() == others
