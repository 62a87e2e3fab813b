"""`llmctl run` in scripts: what comes in by pipes and files, and what goes out, byte for byte.

A server that answers with the prompt it got stands in for a model, so that stdout tells what was asked.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fakes.chat_server import DONE, ChatServer, Handler, event, status, stream
from tests.fakes.command import llmctl, ran
from tests.fakes.shell import Shell
from tests.fakes.terminal import Terminal

MEGABYTE = "0123456789abcde\n" * (1 << 16)


def echo(handler: Handler) -> None:
    """Answers with the last message, in two pieces."""
    body = json.loads(handler.server.received[-1].body)  # type: ignore[attr-defined]
    content = body["messages"][-1]["content"]
    said = content if isinstance(content, str) else content[-1]["text"]
    half = len(said) // 2
    stream(event(said[:half]), event(said[half:], finish="stop"), DONE)(handler)


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with ChatServer(echo) as made:
        yield made


@pytest.fixture(autouse=True)
def desk(server: ChatServer, home: Path) -> None:
    """The server by its name, and files of all kinds."""
    config = home / "config" / "llmctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[endpoints.desk]\nurl = "{server.url}"\nmodel = "m"\n')
    templates = config.parent / "templates"
    templates.mkdir()
    (templates / "ask.md").write_text("Please: {{ input }}!\n")
    (templates / "before.txt").write_text("Translate this.")
    for name, data in FILES.items():
        (home / name).write_bytes(data)


FILES = {
    "notes.md": b"# Notes\n\nplum\n",
    "größe 漢字.txt": "grün\n".encode(),
    "-dash.txt": b"dash",
    "crlf.txt": b"a\r\nb\r\n",
    "bom.txt": b"\xef\xbb\xbfwith a mark",
    "wide.txt": "breit".encode("utf-16"),
    "empty.txt": b"",
    "latin.txt": b"caf\xe9",
    "cut.txt": "grün".encode()[:3],
    "binary": b"\x7fELF\x00\x01",
    "broken.pdf": b"%PDF-1.7 and nothing else",
    "broken.docx": b"PK\x03\x04 and nothing else",
    "schema.json": b'{"type": "object"}',
    "list.json": b"[1]",
    'quo"te.txt': b"quoted",
    "dot.png": b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 1, 1) + b"\x08\x06\0\0\0",
}


def shown(name: str, text: str) -> str:
    return f'<file name="{name}">\n{text}\n</file>'


@dataclass(frozen=True)
class Row:
    """``out`` is stdout to the byte; ``error`` stands on stderr. Where it fails, stdout is empty."""

    arguments: tuple[str, ...]
    stdin: str | bytes = ""
    out: str | bytes = b""
    code: int = 0
    error: str = ""
    environment: dict[str, str] = field(default_factory=dict)


def asks(*arguments: str, stdin: str | bytes = "", out: str | bytes, **environment: str) -> Row:
    return Row(arguments, stdin, out, environment=environment)


def fails(code: int, error: str, *arguments: str, stdin: str | bytes = "", **environment: str) -> Row:
    return Row(arguments, stdin, b"", code, error, environment)


ROWS = {
    # what is asked
    "an argument": asks("hi", out="hi\n"),
    "an argument of two lines": asks("a\nb", out="a\nb\n"),
    "an argument that ends in a newline": asks("hi\n", out="hi\n"),
    "an argument with blanks around it": asks("  hi  ", out="  hi  \n"),
    "an argument in Arabic": asks("مرحبا", out="مرحبا\n"),
    "an argument with emoji": asks("👩‍👩‍👧 🇩🇪", out="👩‍👩‍👧 🇩🇪\n"),
    "an argument with control characters": asks("a\x1b[31mb\x07", out="a\x1b[31mb\x07\n"),
    "an argument behind --": asks("--", "--help", out="--help\n"),
    "stdin": asks(stdin="from a pipe", out="from a pipe\n"),
    "stdin without the final newline": asks(stdin="a\nb", out="a\nb\n"),
    "stdin with final newlines": asks(stdin="a\n\n\n", out="a\n"),
    "stdin with newlines before": asks(stdin="\n\na", out="a\n"),
    "stdin before the argument": asks("and this", stdin="first\n", out="first\n\nand this\n"),
    "a dash is stdin": asks("-", stdin="only this", out="only this\n"),
    "stdin left alone": asks("--no-stdin", "hi", stdin="not this", out="hi\n"),
    "empty stdin and an argument": asks("hi", stdin="", out="hi\n"),
    "blank stdin and an argument": asks("hi", stdin=" \n\t\n", out="hi\n"),
    "stdin in Chinese": asks(stdin="漢字かな交じり文\n", out="漢字かな交じり文\n"),
    "stdin from right to left": asks("?", stdin="שלום עולם\n", out="שלום עולם\n\n?\n"),
    "stdin with combining marks": asks(stdin="e\u0301 a\u0308\n", out="e\u0301 a\u0308\n"),
    "stdin with CRLF": asks(stdin="a\r\nb\r\n", out="a\r\nb\n"),
    "stdin with lone CR": asks(stdin="a\rb", out="a\rb\n"),
    "stdin with a byte order mark": asks(stdin="\ufeffa", out="a\n"),
    "stdin with NUL": asks(stdin=b"a\x00b", out=b"a\x00b\n"),
    "stdin with control characters": asks(stdin="a\x1b[2Jb", out="a\x1b[2Jb\n"),
    "stdin cut inside a character": asks(stdin="grün".encode()[:3], out="gr\ufffd\n"),
    "stdin in Latin-1": asks(stdin=b"caf\xe9 au lait", out="caf\ufffd au lait\n"),
    "stdin of surrogates": asks(stdin=b"\xed\xa0\x80", out="\ufffd\ufffd\ufffd\n"),
    "a megabyte of stdin": asks(stdin=MEGABYTE, out=MEGABYTE),
    "a megabyte of one line": asks(stdin="x" * (1 << 20), out="x" * (1 << 20) + "\n"),
    "a megabyte and a question": asks("Why?", stdin=MEGABYTE, out=MEGABYTE + "\nWhy?\n"),
    "JSON on stdin": asks(stdin='{"a": "\\u00e9"}', out='{"a": "\\u00e9"}\n'),
    "Markdown on stdin": asks(stdin="# a\n\n```\nb\n```\n", out="# a\n\n```\nb\n```\n"),
    "a long line is not broken": asks("word " * 100 + "end", out="word " * 100 + "end\n"),
    # where nothing is asked
    "no prompt": fails(2, "there is no prompt"),
    "an empty argument": fails(2, "there is no prompt", ""),
    "a blank argument": fails(2, "there is no prompt", " \n "),
    "blank stdin": fails(2, "there is no prompt", stdin=" \n\n"),
    "a dash and nothing": fails(2, "there is no prompt", "-"),
    "a dash with stdin left alone": fails(2, "--no-stdin leaves alone", "-", "--no-stdin", stdin="x"),
    "nothing with stdin left alone": fails(2, "there is no prompt", "--no-stdin", stdin="x"),
    # files
    "a file": asks("-f", "notes.md", "?", out=shown("notes.md", "# Notes\n\nplum") + "\n\n?\n"),
    "a file alone": asks("-f", "notes.md", out=shown("notes.md", "# Notes\n\nplum") + "\n"),
    "two files": asks(
        "-f", "bom.txt", "--file", "crlf.txt", "?",
        out=shown("bom.txt", "with a mark") + "\n\n" + shown("crlf.txt", "a\r\nb") + "\n\n?\n",
    ),
    "a file, stdin and an argument": asks(
        "-f", "bom.txt", "?", stdin="piped", out=shown("bom.txt", "with a mark") + "\n\npiped\n\n?\n"
    ),
    "a file whose name is no ASCII": asks("-f", "größe 漢字.txt", out=shown("größe 漢字.txt", "grün") + "\n"),
    "a file that begins with a dash": asks("-f", "-dash.txt", out=shown("-dash.txt", "dash") + "\n"),
    "a file with a quote in its name": asks("-f", 'quo"te.txt', out=shown("quo'te.txt", "quoted") + "\n"),
    "a file of another folder, by its name alone": asks(
        "-f", "../home/bom.txt", out=shown("bom.txt", "with a mark") + "\n"
    ),
    "an empty file": asks("-f", "empty.txt", "?", out=shown("empty.txt", "") + "\n\n?\n"),
    "a file in UTF-16": asks("-f", "wide.txt", out=shown("wide.txt", "breit") + "\n"),
    "a file in Latin-1": fails(2, "not UTF-8 text: byte 0xe9 at position 3", "-f", "latin.txt", "?"),
    "a file cut inside a character": fails(2, "not UTF-8 text", "-f", "cut.txt", "?"),
    "a binary": fails(2, "is not text: byte 0x00 at position 4", "-f", "binary", "?"),
    "a file that is missing": fails(4, "missing.txt is not there\n  next: ls .   lists", "-f", "missing.txt", "?"),
    "a folder": fails(2, "is a folder", "-f", ".", "?"),
    "an address": fails(2, "is an address", "-f", "https://example.org/a.txt", "?"),
    "an address with a password": fails(2, "is an address", "-f", "https://u:secret@example.org/", "?"),
    "a broken docx": fails(2, "broken.docx can't be read", "-f", "broken.docx", "?"),
    "an empty name of a file": fails(2, "is a folder", "-f", "", "?"),
    "one of two files is missing": fails(4, "missing.txt", "-f", "notes.md", "-f", "missing.txt", "?"),
    "an image": asks("--image", "dot.png", "What is it?", out="What is it?\n"),
    "an image alone": fails(2, "there is no prompt", "--image", "dot.png"),
    "an image that is text": fails(2, "notes.md is no image", "--image", "notes.md", "?"),
    "an image that is missing": fails(4, "no.png is not there", "--image", "no.png", "?"),
    "an image that is an address": fails(2, "is an address", "--image", "https://example.org/a.png", "?"),
    # templates
    "a template": asks("--template", "ask", "hi", out="Please: hi!\n"),
    "a template around stdin": asks("--template", "ask", "b", stdin="a", out="Please: a\n\nb!\n"),
    "a template without a place": asks("--template", "before", "hi", out="Translate this.\n\nhi\n"),
    "a template and braces in the prompt": asks("--template", "ask", "{{input}}\\1", out="Please: {{input}}\\1!\n"),
    "a template that is missing": fails(4, "there is no template no (ask, before)", "--template", "no", "hi"),
    "a template with a path": fails(2, "is no name of a template", "--template", "../ask", "hi"),
    "a template without a name": fails(2, "--template was given an empty name", "--template", "", "hi"),
    # the form of the answer
    "JSON": asks("--json-object", '{"a": 1}', out='{"a": 1}\n'),
    "JSON of a schema": asks("--schema", '{"type": "object"}', '{"a": 1}', out='{"a": 1}\n'),
    "JSON of a schema in a file": asks("--schema", "schema.json", "[1]", out="[1]\n"),
    "JSON that is none": Row(("--json-object", "hi"), out="hi\n", error="the answer is not JSON"),
    "a schema that is no JSON": fails(2, "--schema is not JSON", "--schema", "{", "hi"),
    "a schema that is a list": fails(2, "list.json is not a JSON schema", "--schema", "list.json", "hi"),
    "a schema that is missing": fails(4, "no.json is not there", "--schema", "no.json", "hi"),
    "two forms at once": fails(2, "exclude each other", "--schema", "{}", "--json-object", "hi"),
    "an empty stop": fails(2, "--stop was given nothing", "--stop", "", "hi"),
    "two stops": asks("--stop", "x", "--stop", "y", "hi", out="hi\n"),
    # what stands beside the answer
    "quiet": asks("-q", "hi", out="hi\n"),
    "figures": Row(("--stats", "hi"), out="hi\n", error="first token after"),
    "the server is named": Row(("hi",), out="hi\n", error="→ desk (127.0.0.1"),
    "the server is named, quietly too": Row(("-q", "hi"), out="hi\n", error="→ desk (127.0.0.1"),
    "no colour": asks("hi", out="hi\n", NO_COLOR="1"),
    "colour that is forced": asks("hi", out="hi\n", FORCE_COLOR="1"),
    "a dumb terminal": asks("hi", out="hi\n", TERM="dumb"),
    "no terminal at all": asks("hi", out="hi\n", TERM=""),
    "forty columns": asks("word " * 20, out="word " * 20 + "\n", COLUMNS="40"),
    "no columns": asks("word " * 20, out="word " * 20 + "\n", COLUMNS="0"),
    # where it may go
    "private": fails(11, "the prompt is private", "--private", "hi"),
    "here and there": fails(2, "exclude each other", "--local", "hi"),
    "a server that is not there": fails(4, "no endpoint named nobody", "-e", "nobody", "hi"),
    "an option that is not there": fails(2, "no such option", "--nope", "hi"),
    "two arguments": fails(2, "unexpected extra argument", "a", "b"),
    "a part that is not one": fails(2, "truncate", "--truncate", "all", "hi"),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_command(row: Row) -> None:
    stdin = row.stdin.encode() if isinstance(row.stdin, str) else row.stdin
    done = ran(("run", "-e", "desk", *row.arguments), stdin=stdin, environment=row.environment)
    said = done.stderr.decode()
    assert (done.returncode, row.error in said) == (row.code, True), said
    assert done.stdout == (row.out.encode() if isinstance(row.out, str) else row.out)
    assert "Traceback" not in said
    assert "secret" not in said
    assert "\x1b" not in said


def test_what_a_server_is_asked_for(server: ChatServer) -> None:
    schema = '{"type": "object", "required": ["a"]}'
    options = ("--stop", "END", "--stop", "\n\n", "--schema", schema, "--seed", "7", "-n", "9", "-s", "be brief")
    assert ran(("run", "-e", "desk", *options, '{"a": 1}')).returncode == 0
    body = json.loads(server.requests[-1].body)
    assert body["stop"] == ["END", "\n\n"]
    assert body["response_format"]["json_schema"]["schema"] == json.loads(schema)
    assert (body["seed"], body["max_tokens"]) == (7, 9)
    assert body["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": '{"a": 1}'}]


def test_a_server_that_refuses_a_long_prompt_gets_less_of_it_if_that_was_allowed(home: Path) -> None:
    too_long = status(400, {"error": {"message": "maximum context length is 100 tokens", "code": "context"}})
    with ChatServer(too_long, too_long, stream(event("Plums.", finish="stop"), DONE)) as picky:
        config = home / "config" / "llmctl" / "config.toml"
        config.write_text(f'[endpoints.desk]\nurl = "{picky.url}"\nmodel = "m"\n')
        done = ran(("run", "-e", "desk", "--truncate", "head", "What?"), stdin=b"old " * 100 + b"new")
        assert (done.returncode, done.stdout) == (0, b"Plums.\n"), done.stderr
        asked = [json.loads(request.body)["messages"][-1]["content"] for request in picky.requests]
        assert [len(text) for text in asked] == sorted((len(text) for text in asked), reverse=True)
        assert asked[-1].startswith("[… 259 characters left out …]\n")
        assert asked[-1].endswith("old new\n\nWhat?")
        said = done.stderr.decode()
        assert said.count("→ desk") == 3
        assert "259 of 403 characters are dropped, the head of what" in said


def test_an_image_goes_before_the_prompt(server: ChatServer, home: Path) -> None:
    assert llmctl("run", "-e", "desk", "--image", "dot.png", "What?", LLMCTL_CHAT_HISTORY="1").returncode == 0
    image, text = json.loads(server.requests[-1].body)["messages"][0]["content"]
    url = "data:image/png;base64," + base64.b64encode(FILES["dot.png"]).decode()
    assert (image, text) == ({"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What?"})
    assert llmctl("run", "-e", "desk", "-c", "And?", LLMCTL_CHAT_HISTORY="1").returncode == 0
    assert json.loads(server.requests[-1].body)["messages"][0]["content"] == [image, text]
    before = len(server.requests)
    for option in (("--local",), ("-m", "none.gguf")):
        assert llmctl("run", *option, "--image", "dot.png", "What?").returncode in (3, 4)  # nothing here reads images
    assert len(server.requests) == before
    config = home / "config" / "llmctl" / "config.toml"
    config.write_text('policy = "prefer-remote"\n' + config.read_text())
    assert llmctl("run", "--image", "dot.png", "What?").returncode == 0
    assert len(server.requests) == before + 1


RUN = "llmctl run -e desk"
SHELL = {
    "a here-document": (f"{RUN} '?' <<END\nfirst\nEND", 0, b"first\n\n?\n"),
    "a file as stdin": (f"{RUN} - < notes.md", 0, b"# Notes\n\nplum\n"),
    "a pipe of three": (f"printf 'b\\na\\n' | sort | {RUN} | tr a-z A-Z", 0, b"A\nB\n"),
    "an answer in a variable": (f'x="$({RUN} -q hi 2>/dev/null)"; printf "<%s>" "$x"', 0, b"<hi>"),
    "nobody reads the answer": (f"set -o pipefail; {RUN} hi | true", 141, b""),
    "a full disk": (f"{RUN} hi > /dev/full", 7, b""),
    "a loop over lines": (f"printf 'a\\nb\\n' | while read x; do {RUN} --no-stdin $x; done", 0, b"a\nb\n"),
    "an argument that is no UTF-8": (f"{RUN} $'caf\\xe9'", 0, "caf\ufffd\n".encode()),
}

START = f"{shlex.quote(sys.executable)} -m llmctl run -e desk"
AT_START = {  # what only a process of bash's own inherits, and what Python itself makes of its streams and its locale
    "a file of a pipe": (f"{START} -f <(printf plum) '?' | tail -1", 0, b"?\n"),
    "a closed stdin": (f"{START} hi <&-", 0, b"hi\n"),
    "a closed stdout": (f"{START} hi >&-", 0, b""),
    "a closed stderr": (f"{START} hi 2>&-", 0, b"hi\n"),
    "the locale C": (f"printf 'gr\\303\\274n' | LC_ALL=C LANG=C {START} '→ ü'", 0, "grün\n\n→ ü\n".encode()),
    "the locale C, in no UTF-8 mode": (f"LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {START} hi", 0, b"hi\n"),
}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with Shell(tmp_path_factory.mktemp("shell")) as made:
        yield made


@pytest.mark.parametrize(("script", "code", "out"), [*SHELL.values(), *AT_START.values()], ids=[*SHELL, *AT_START])
def test_a_shell(script: str, code: int, out: bytes, shell: Shell) -> None:
    done = subprocess.run(
        ["bash", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        env={**os.environ, **shell.environment},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    assert b"Traceback" not in done.stderr


def test_thoughts_are_shown_at_a_terminal_kept_in_json_and_else_left_out(home: Path) -> None:
    thinks = stream(event(reasoning_content="plums ripen"), event("In August.", finish="stop"), DONE)
    with ChatServer(thinks) as server:
        config = home / "config" / "llmctl" / "config.toml"
        config.write_text(f'[endpoints.desk]\nurl = "{server.url}"\nmodel = "m"\n')
        piped = ran(("run", "-e", "desk", "When?"))
        assert (piped.stdout, b"ripen" in piped.stderr) == (b"In August.\n", False)
        data = json.loads(ran(("run", "-e", "desk", "--json", "When?")).stdout)["data"]
        assert (data["text"], data["reasoning"]) == ("In August.", "plums ripen")
        with Terminal("run", "-e", "desk", "--no-stdin", "When?") as terminal:
            terminal.see("plums ripen\nIn August")
            assert terminal.ended() == 0


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_at_a_narrow_terminal_lines_break_between_words(term: str) -> None:
    with Terminal(
        "run", "-e", "desk", "--no-stdin", "longwords " * 8 + "end", TERM=term, COLUMNS="", LINES=""
    ) as terminal:
        terminal.resize(40, 10)
        terminal.see("longwords longwords longwords longwords\n(longwords )*")
        terminal.see("end\n")
        assert terminal.ended() == 0
        assert "\x1b" not in terminal.raw


ANSWER = "# A *title*\n\n**bold** `code`\n"


@pytest.mark.parametrize(
    ("arguments", "environment", "shown"),
    [
        ((), {}, "\x1b[1;4mA\x1b[0m \x1b[1;4;3mtitle\x1b[0m\r\n\r\n\x1b[1mbold\x1b[0m \x1b[36mcode\x1b[0m\r\n"),
        ((), {"NO_COLOR": "1"}, None),
        ((), {"TERM": "dumb"}, None),
        ((), {"LLMCTL_MARKDOWN": "no"}, None),
        (("--json-object",), {}, None),
    ],
)
def test_markdown_is_shown_where_the_terminal_has_styles(
    arguments: tuple[str, ...], environment: dict[str, str], shown: str | None
) -> None:
    with Terminal("run", "-e", "desk", "--no-stdin", *arguments, ANSWER, **environment) as terminal:
        terminal.see("tok/s")
        assert terminal.ended() == 0
        assert (ANSWER.replace("\n", "\r\n") if shown is None else shown) in terminal.raw


def messages(server: ChatServer) -> list[tuple[str, str]]:
    """Role and content of what was asked last."""
    return [(message["role"], message["content"]) for message in json.loads(server.requests[-1].body)["messages"]]


def test_a_conversation_goes_on_where_history_is_switched_on(server: ChatServer, home: Path) -> None:
    refused = llmctl("run", "-e", "desk", "-c", "And?", LLMCTL_CHAT_HISTORY="")
    assert (refused.returncode, "LLMCTL_CHAT_HISTORY=1" in refused.stderr) == (2, True), refused.stderr
    assert llmctl("run", "-e", "desk", "-c", "And?", LLMCTL_CHAT_HISTORY="1").returncode == 4
    assert llmctl("run", "-e", "desk", "not kept").returncode == 0
    assert llmctl("run", "-e", "desk", "--private", "secret", LLMCTL_CHAT_HISTORY="1").returncode == 11
    assert llmctl("run", "-e", "desk", "-s", "be brief", "plums", LLMCTL_CHAT_HISTORY="1").returncode == 0
    done = llmctl("run", "-e", "desk", "--json", "-c", "And?", stdin="more", LLMCTL_CHAT_HISTORY="1")
    assert done.returncode == 0, done.stderr
    first = [("system", "be brief"), ("user", "plums"), ("assistant", "plums")]
    assert messages(server) == [*first, ("user", "more\n\nAnd?")]
    done = llmctl("run", "-e", "desk", "-c", "-s", "be kind", "last", LLMCTL_CHAT_HISTORY="1")
    assert "going on with 2 turns, the last: more And?" in done.stderr
    assert messages(server)[:1] == [("system", "be kind")]
    assert messages(server)[-2:] == [("assistant", "more\n\nAnd?"), ("user", "last")]
    (file,) = (home / "data" / "llmctl" / "conversations").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("broken")
    refused = llmctl("run", "-e", "desk", "-c", "And?", LLMCTL_CHAT_HISTORY="1")
    assert (refused.returncode, str(file) in refused.stderr, file.read_text()) == (6, True, "broken")
    done = llmctl("chat", "--forget")
    assert (done.returncode, "deleted: 1 conversation and 0 prompts" in done.stderr) == (0, True), done.stderr
    assert not file.parent.exists()


def test_what_was_begun_with_local_does_not_leave_later(home: Path, server: ChatServer) -> None:
    kept = home / "data" / "llmctl" / "conversations" / "a.json"
    kept.parent.mkdir(parents=True)
    turn = {"prompt": "my secret", "answer": "is safe"}
    begun = {"local": True, "model": "none.gguf"}
    kept.write_text(json.dumps({"format": "llmctl-conversation/1", "turns": [turn], "begun": begun}))
    before = len(server.requests)
    done = llmctl("run", "-e", "desk", "-c", "And?", LLMCTL_CHAT_HISTORY="1")
    assert (done.returncode, "begun with --local" in done.stderr) == (2, True), done.stderr
    config = home / "config" / "llmctl" / "config.toml"
    config.write_text('policy = "remote-only"\n' + config.read_text())
    done = llmctl("run", "-c", "And?", LLMCTL_CHAT_HISTORY="1")
    assert (done.returncode, "none.gguf does not exist" in done.stderr) == (4, True), done.stderr
    assert len(server.requests) == before
