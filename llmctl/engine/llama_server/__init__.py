"""llama.cpp's own server, in place of the worker with llama-cpp-python: reachable by nobody but the client here."""
