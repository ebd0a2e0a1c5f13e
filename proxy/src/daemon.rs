//! Wiring: which rooms run on which threads, and how they start, drain and end.
