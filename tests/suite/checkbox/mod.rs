//! The stand-in is what it stands in for: its routes, its faults, its way to die.

mod faults;
mod quirks;
mod routes;
mod traffic;
