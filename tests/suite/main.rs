//! The suite: serin and what it needs, as real processes over real sockets. A file to a subject.

mod ansible;
mod audit;
mod backtest;
mod checkbox;
mod cli;
mod control;
mod costs;
mod demo;
mod discovery;
mod events;
mod flags;
mod fleet;
mod mail;
mod ofrep;
mod pull;
mod query_of_death;
mod redis_outage;
mod rollout;
mod sentinel;
mod signals;
mod split;
mod store;
mod tls;
mod verdict_report;
mod wire;
