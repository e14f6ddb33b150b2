"""Methods compared under one budget: what to run, running it, and what came out as tables and figures."""
