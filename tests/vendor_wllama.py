"""Brings another version of the engine for the tab into the page: ``python tests/vendor_wllama.py 3.13.0``.

It is packed by npm from whatever registry that is set up for, and noted in ``vendored.json`` with its hashes, which a
test holds. What changed in it is to be read before it is committed.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

NAME = "@wllama/wllama"
FOLDER = Path(__file__).parent.parent / "llmctl" / "server" / "page" / "wllama"
FILES = {"index.min.js": "esm/index.min.js", "wllama.wasm": "esm/wasm/wllama.wasm", "LICENCE": "LICENCE"}


def main(version: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        packing = ["npm", "pack", "--json", "--pack-destination", folder, f"{NAME}@{version}"]
        (packed,) = json.loads(subprocess.run(packing, check=True, capture_output=True, text=True, timeout=300).stdout)
        with tarfile.open(Path(folder) / packed["filename"]) as archive:
            contents = {name: _content(archive, f"package/{path}") for name, path in FILES.items()}
            licence = json.loads(_content(archive, "package/package.json"))["license"]
    FOLDER.mkdir(exist_ok=True)
    for name, content in contents.items():
        (FOLDER / name).write_bytes(content)
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}
    noted = {"name": NAME, "version": version, "licence": licence, "integrity": packed["integrity"], "sha256": sha256}
    (FOLDER / "vendored.json").write_text(json.dumps(noted, indent=2) + "\n")


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None, name
    return member.read()


if __name__ == "__main__":
    main(sys.argv[1])
