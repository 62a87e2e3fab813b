"""The official npm client of OpenAI asks the gateway."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGE = "openai@7"
ASKS = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "a key", maxRetries: 0 });
const messages = [{ role: "user", content: "hi" }];
const chat = await client.chat.completions.create({ model: "scripted", messages });
let streamed = "";
for await (const chunk of await client.chat.completions.create({ model: "scripted", messages, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
const stream = client.responses.stream({ model: "scripted", input: "hi" });
const response = await stream.finalResponse();
const models = (await client.models.list()).data.map((model) => model.id);
const error = await client.responses.create({ model: "scripted", input: "hi", store: true }).catch((error) => error);
console.log(JSON.stringify({
  chat: chat.choices[0].message.content, streamed, response: response.output_text, models,
  status: error.status, message: error.message,
}));
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("npm and node are not installed")
    folder = tmp_path_factory.mktemp("npm")
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
    installed = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=120)
    if installed.returncode:
        pytest.skip(f"npm can't install {PACKAGE} here: {installed.stderr[:200]}")
    program = folder / "ask.mjs"
    program.write_text(ASKS)
    return program


def test_the_npm_client(url: str, program: Path) -> None:
    argv = ["node", str(program), url]
    asked = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    answer = json.loads(asked.stdout)
    assert [answer[name] for name in ("chat", "streamed", "response")] == ["The answer is 42."] * 3
    assert (answer["models"], answer["status"]) == (["scripted"], 400)
    assert "store" in answer["message"]
