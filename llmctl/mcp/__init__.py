"""A Model Context Protocol server on stdio: agents ask what this machine can do, and ask a model on it."""
