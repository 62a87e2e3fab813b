"""Machines that are described: documents, the table of devices, what-if."""
