"""Machines that somebody wrote down: documents, tables of devices, what-if."""
