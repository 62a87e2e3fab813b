"""Files: atomic writes, locks, room on a disk, copies, checked decoding of what other programs wrote."""
