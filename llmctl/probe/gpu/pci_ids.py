"""What a PCI device is called: the PCI ID Project's table, and libdrm's for AMD, which knows revisions too.

Both come with the system (packages pci.ids or hwdata, and libdrm-common); where neither is there, there is no name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from llmctl.host import Host
from llmctl.probe.text import line

TABLES = (  # Fedora, Arch, Ubuntu; Debian; others; update-pciids on Debian
    "/usr/share/hwdata/pci.ids",
    "/usr/share/misc/pci.ids",
    "/usr/share/pci.ids",
    "/var/lib/pciutils/pci.ids",
)
AMD_TABLE = "/usr/share/libdrm/amdgpu.ids"
PCI_NUMBERS: Mapping[str, str] = {"NVIDIA": "10de", "AMD": "1002", "Intel": "8086"}  # vendors that llama.cpp can use
VENDORS: Mapping[str, str] = {number: vendor for vendor, number in PCI_NUMBERS.items()}
LIMIT_BYTES = 8 << 20  # of 1.7 MB in 2026
LONGEST_NAME = 120
NEXT_VENDOR = re.compile(r"\n[0-9a-f]{4}  ")


def name(host: Host, pci_id: str | None, revision: str | None = None) -> str | None:
    """What people call the GPU "1002:747e", None if no table here knows it. ``revision`` is as sysfs has it, "0xc8".

    "Navi 32 [Radeon RX 7800 XT]" becomes "Radeon RX 7800 XT"; a list, "Navi 32 [Radeon RX 7700 XT / 7800 XT]", stays
    whole, because it doesn't say which one it is. libdrm's table tells them apart by the revision.
    """
    vendor, _, device = (pci_id or "").partition(":")
    if VENDORS.get(vendor) == "AMD" and revision:
        product = _with_revision(host.read(AMD_TABLE) or "", device, revision.strip().removeprefix("0x"))
        if product:
            return product
    for table in TABLES if device else ():
        product = product_of(_device(host.read(table, limit_bytes=LIMIT_BYTES) or "", vendor, device))
        if product:
            return product
    return None


def product_of(entry: str | None) -> str | None:
    """The product's name in an entry "chip [product]"."""
    product = re.fullmatch(r".*\[([^\[\]/]+)\]", entry or "")
    return line(product[1] if product else entry) or None


def _device(text: str, vendor: str, device: str) -> str | None:
    """The entry of one device: vendors stand at the beginning of a line, their devices behind a tab, boards behind
    two (the head of pci.ids)."""
    _, listed_vendor, rest = f"\n{text}".partition(f"\n{vendor}  ")
    following = NEXT_VENDOR.search(rest)
    devices = rest[: following.start()] if following else rest
    _, listed, entry = devices.partition(f"\n\t{device}  ")
    return entry.partition("\n")[0][:LONGEST_NAME] if listed_vendor and listed else None


def _with_revision(text: str, device: str, revision: str) -> str | None:
    """The entry of libdrm's table, lines "744C,<tab>C8,<tab>AMD Radeon RX 7900 XTX". The first of two counts, as in
    amdgpu_parse_asic_ids() (amdgpu/amdgpu_asic_id.c)."""
    for entry in text.splitlines():
        parts = [part.strip() for part in entry.split(",", 2)]
        if len(parts) == 3 and [part.lower() for part in parts[:2]] == [device, revision.lower()]:
            return line(parts[2]) or None
    return None


def excerpt(table: str, text: str, ids: Collection[str]) -> str | None:
    """Of a table only what tells of ``ids`` ("1002:747e"), None if it isn't a table: for a recording."""
    if table == AMD_TABLE:
        devices = {pci_id.partition(":")[2] for pci_id in ids}
        return "".join(entry for entry in text.splitlines(True) if entry.partition(",")[0].strip().lower() in devices)
    if table not in TABLES:
        return None
    lines, vendor = [], ""
    for entry in text.splitlines(True):
        if re.match(r"[0-9a-f]{4}  ", entry):
            vendor = entry[:4]
            if any(pci_id.startswith(vendor) for pci_id in ids):
                lines.append(entry)
        elif re.match(r"\t[0-9a-f]{4}  ", entry) and f"{vendor}:{entry[1:5]}" in ids:
            lines.append(entry)
    return "".join(lines)
