//! How many distinct units were seen: a HyperLogLog sketch for each core and arm.
//!
//! Flajolet, Fusy, Gandouet, Meunier, *HyperLogLog* (2007), with linear counting
//! below 2.5 × the registers. 2,048 registers: a standard error of 2.3 %.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::model::split::Unit;

const BITS: u32 = 11;
const REGISTERS: usize = 1 << BITS;

/// A sketch that one core writes.
#[derive(Debug)]
pub struct Sketch {
    registers: Box<[AtomicU8]>,
}

impl Default for Sketch {
    fn default() -> Self {
        Self { registers: (0..REGISTERS).map(|_| AtomicU8::new(0)).collect() }
    }
}

impl Sketch {
    /// Notes a unit: mostly one load, a store only when something was learnt.
    pub fn note(&self, unit: Unit) {
        // The half that doesn't decide the arm: within one arm the other is not uniform.
        let hash = unit.lower();
        #[expect(clippy::cast_possible_truncation, reason = "eleven bits, and a count up to 54")]
        let (register, rank) =
            ((hash >> (64 - BITS)) as usize, ((hash << BITS) | (1 << (BITS - 1))).leading_zeros() as u8 + 1);
        let cell = &self.registers[register];
        if cell.load(Ordering::Relaxed) < rank {
            cell.store(rank, Ordering::Relaxed);
        }
    }
}

/// The number of distinct units in all these sketches together.
pub fn distinct<'a>(sketches: impl IntoIterator<Item = &'a Sketch>) -> u64 {
    let mut union = [0u8; REGISTERS];
    for sketch in sketches {
        for (highest, cell) in union.iter_mut().zip(&sketch.registers) {
            *highest = (*highest).max(cell.load(Ordering::Relaxed));
        }
    }
    estimate(&union)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate of a count"
)]
fn estimate(registers: &[u8; REGISTERS]) -> u64 {
    let m = REGISTERS as f64;
    let sum: f64 = registers.iter().map(|rank| f64::powi(2.0, -i32::from(*rank))).sum();
    let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
    let empty = registers.iter().filter(|rank| **rank == 0).count();
    let estimate = if raw <= 2.5 * m && empty > 0 { m * (m / empty as f64).ln() } else { raw };
    estimate.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::split::Salt;

    #[test]
    fn distinct_units_are_counted_once_over_all_cores() {
        for units in [0u32, 1, 10, 1_000, 100_000] {
            let cores = [Sketch::default(), Sketch::default()];
            for key in 0..units {
                let unit = Unit::of_key(Salt(9), &key.to_le_bytes());
                // half of the users come through both cores, again and again
                cores[(key % 2) as usize].note(unit);
                cores[0].note(unit);
                cores[0].note(unit);
            }
            #[expect(clippy::cast_precision_loss, reason = "a count of users")]
            let counted = distinct(&cores) as f64;
            let off = (counted - f64::from(units)).abs();
            assert!(off <= f64::from(units) * 0.07 + 0.5, "{units} units read as {counted}");
        }
    }
}
