"""Graphics processors, by vendor and driver, merged into one list."""
