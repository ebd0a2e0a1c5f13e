//! The statistical report on the verdict: what is promised of it, simulated with its own code.
//!
//! `bin/verdict-report.rs` writes it, `docs/verdict-report.md` is what it wrote. `judged` is the only
//! module that knows the verdict's interface. A section each: `healthy` (false pulls), `detection` (bad
//! units to a pull, against the least possible), `clock` (time to a pull), `pass`, `peers` (other rules on
//! the same requests) and `hostile`. Every figure in the text comes out of the run.

mod clock;
mod detection;
mod dice;
mod figures;
mod healthy;
mod hostile;
mod judged;
mod pass;
mod peers;
mod plan;
mod table;

use std::io::{self, Write};

pub use plan::Plan;

/// A section of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Section {
    /// False pulls of healthy canaries.
    Healthy,
    /// Bad units to a pull.
    Detection,
    /// Time to a pull.
    Clock,
    /// Units to a pass.
    Pass,
    /// Other rules on the same requests.
    Peers,
    /// Clients that err or flood on purpose.
    Hostile,
}

impl Section {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [Self::Healthy, Self::Detection, Self::Clock, Self::Pass, Self::Peers, Self::Hostile];

    const fn title(self) -> &'static str {
        match self {
            Self::Healthy => "False pulls",
            Self::Detection => "Bad units to a pull",
            Self::Clock => "Time to a pull",
            Self::Pass => "Units to a pass",
            Self::Peers => "Other rules on the same requests",
            Self::Hostile => "Somebody who errs or floods on purpose",
        }
    }

    fn write(self, plan: &Plan) -> String {
        match self {
            Self::Healthy => healthy::write(plan),
            Self::Detection => detection::write(plan),
            Self::Clock => clock::write(plan),
            Self::Pass => pass::write(plan),
            Self::Peers => peers::write(plan),
            Self::Hostile => hostile::write(plan),
        }
    }
}

/// Writes these sections.
///
/// # Errors
/// When they can't be written.
pub fn write(plan: &Plan, sections: &[Section], out: &mut impl Write) -> io::Result<()> {
    for section in sections {
        writeln!(out, "## {}\n\n{}\n", section.title(), section.write(plan).trim_end())?;
        out.flush()?;
    }
    Ok(())
}

/// The report's head: what it is, and how to have it written again.
pub fn head(plan: &Plan) -> String {
    let quick = if plan.one_in == 1 { "" } else { " --quick" };
    format!(
        "# Report on the verdict\n\n\
         What [the verdict](verdict.md) promises, simulated with the code that judges. No figure here is typed by hand: \
         `just verdict-report` writes this file, and the seed gives the same figures again.\n\n\
         ```\ncargo run --release --package serin-tests --bin verdict-report -- --seed {}{quick}\n```\n\n\
         serin {}. A goal that is missed is marked **missed**.\n",
        plan.seed,
        env!("CARGO_PKG_VERSION"),
    )
}
