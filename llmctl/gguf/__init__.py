"""What a GGUF file says of itself: read_file / read_header, then shape and weights."""
