"""How fast the engine's kernels are on this machine."""
