"""A package, so that its fixtures of that scope end with its last test: a Chromium in use keeps others from asyncio."""
