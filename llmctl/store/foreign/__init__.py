"""Model files that other tools hold on this machine. They are read, never written."""
