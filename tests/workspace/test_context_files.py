"""Text of documents by their libraries, and what is said of those that can't be read. Plain files: test_pipelines."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from llmctl.errors import UsageError
from llmctl.workspace.context_files import ContextFile, before, read

PDF = b"""%%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>endobj
4 0 obj<</Length %d>>stream
%b
endstream endobj
5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj
trailer<</Root 1 0 R/Size 6>>
startxref
0
%%%%EOF
"""


def pdf(file: Path, text: str) -> None:
    content = f"BT /F 12 Tf 20 100 Td ({text}) Tj ET".encode() if text else b""
    file.write_bytes(PDF % (len(content), content))


def docx(file: Path, text: str) -> None:
    import docx

    document = docx.Document()
    document.add_paragraph(text)
    document.add_table(1, 2).cell(0, 1).text = "in a table"
    document.save(str(file))


def xlsx(file: Path, text: str) -> None:
    from openpyxl.workbook.workbook import Workbook

    book = Workbook()  # type: ignore[no-untyped-call]
    book.active.append([text, None, 3])
    book.save(file)  # type: ignore[no-untyped-call]


def pptx(file: Path, text: str) -> None:
    import pptx

    slides = pptx.Presentation()
    slide = slides.slides.add_slide(slides.slide_layouts[5])
    slide.shapes.title.text = text
    slides.save(str(file))


MAKERS = {".pdf": pdf, ".docx": docx, ".xlsx": xlsx, ".pptx": pptx}
LIBRARIES = {".pdf": "pypdf", ".docx": "docx", ".xlsx": "openpyxl", ".pptx": "pptx"}


@pytest.mark.parametrize("kind", MAKERS)
def test_the_text_of_a_document(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"Bericht{kind}"
    MAKERS[kind](file, "Plums are ripe")
    made = read(str(file))
    assert made.name == file.name
    assert "Plums are ripe" in made.text
    if kind == ".docx":
        assert "in a table" in made.text
    if kind == ".xlsx":
        assert "Plums are ripe\t\t3" in made.text


def test_a_pdf_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    pdf(tmp_path / "report", "Plums are ripe")
    assert "Plums" in read(str(tmp_path / "report")).text


@pytest.mark.parametrize("kind", LIBRARIES)
def test_the_extra_is_named_where_its_library_is_missing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MAKERS[kind](tmp_path / f"a{kind}", "text")
    monkeypatch.setitem(sys.modules, LIBRARIES[kind], None)
    for module in [name for name in sys.modules if name.startswith(f"{LIBRARIES[kind]}.")]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=LIBRARIES[kind]) as raised:
        read(str(tmp_path / f"a{kind}"))
    assert raised.value.hint == 'pip install "llmctl[documents]"'


@pytest.mark.parametrize("kind", MAKERS)
def test_a_broken_document_is_an_error_of_its_own(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{kind}"
    file.write_bytes((b"%PDF-1.7" if kind == ".pdf" else b"PK\x03\x04") + b" and nothing else")
    with pytest.raises(UsageError, match=f"can't be read as a {kind} file"):
        read(str(file))


def test_a_document_of_pictures_is_an_error(tmp_path: Path) -> None:
    pdf(tmp_path / "scan.pdf", "")
    with pytest.raises(UsageError, match="holds no text"):
        read(str(tmp_path / "scan.pdf"))


def test_a_document_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.workspace.context_files.UNPACKED_LIMIT_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"\0" * (2 << 20))
    with pytest.raises(UsageError, match="unpacks to 2,097,152 bytes"):
        read(str(tmp_path / "bomb.docx"))


def test_a_name_can_not_end_its_line_or_drive_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / 'a"\n\x1b[2J.txt'
    file.write_text("x")
    assert read(str(file)).name == "a' .txt"


def test_files_stand_before_the_prompt() -> None:
    text = before([ContextFile("a", "1\n"), ContextFile("b", "2")], "?")
    assert text == '<file name="a">\n1\n</file>\n\n<file name="b">\n2\n</file>\n\n?'
