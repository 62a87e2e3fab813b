"""Passages of the user's own texts: which files a folder has, how they are cut, kept and looked for."""
