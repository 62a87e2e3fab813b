"""llama.cpp by llama-cpp-python: the process that answers, and the question what it would allocate."""
