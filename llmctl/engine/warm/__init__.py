"""Engines that stay loaded between commands."""
