//! A plot of one load as SVG: what came, how many served it under each scaler, and where answers took too long.

use std::fmt::Write as _;

use super::report::Tried;
use crate::model::scaling::simulation::{Moment, Outcome};

const WIDTH: usize = 960;
const MARGIN: usize = 60;
/// One panel's height, and the room below it.
const PANEL: usize = 120;
const GAP: usize = 46;
/// Points across: more than the eye sees would only make the file large.
const POINTS: usize = 600;

/// The plot: a panel for each scaler, all on the same scale.
pub(super) fn svg(tried: &Tried, max: u32) -> String {
    let height = MARGIN + tried.outcomes.len() * (PANEL + GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\" font-size=\"16\">{}: requests (grey), instances that serve (blue), answers too late \
         (red)</text>\n",
        WIDTH + 2 * MARGIN,
        escaped(&tried.trace),
    );
    let moments = || tried.outcomes.iter().flat_map(|(_, outcome)| &outcome.moments);
    let busiest = moments().map(|moment| moment.arrived).fold(1.0, f64::max);
    let largest = moments().map(|moment| moment.total).max().unwrap_or(1).max(1).min(max.max(1));
    for (index, (who, outcome)) in tried.outcomes.iter().enumerate() {
        let top = MARGIN + index * (PANEL + GAP);
        out += &panel(who, outcome, top, busiest, f64::from(largest));
    }
    out + "</svg>\n"
}

fn panel(who: &str, outcome: &Outcome, top: usize, busiest: f64, largest: f64) -> String {
    let bottom = top + PANEL;
    let title = format!(
        "{}: {:.0} violating request-minutes, {:.1} instance-hours",
        escaped(who),
        outcome.violating_request_minutes(),
        outcome.instance_hours()
    );
    let mut out = format!(
        "<text x=\"{MARGIN}\" y=\"{}\">{title}</text>\n\
         <line x1=\"{MARGIN}\" y1=\"{bottom}\" x2=\"{}\" y2=\"{bottom}\" stroke=\"black\"/>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{largest}</text>\n",
        top - 6,
        MARGIN + WIDTH,
        MARGIN - 6,
        top + 10,
    );
    for (at, _) in strips(&outcome.moments).filter(|(_, strip)| strip.iter().any(|moment| moment.violated)) {
        let _ = writeln!(
            out,
            "<rect x=\"{at:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{PANEL}\" fill=\"#f4b6b6\"/>",
            WIDTH as f64 / POINTS as f64
        );
    }
    let arrived =
        |strip: &[Moment]| strip.iter().map(|moment| moment.arrived).sum::<f64>() / strip.len() as f64 / busiest;
    let serving = |strip: &[Moment]| strip.last().map_or(0.0, |moment| f64::from(moment.ready)) / largest;
    out + &line(&outcome.moments, bottom, "#999", arrived) + &line(&outcome.moments, bottom, "#1f5fbf", serving)
}

fn line(moments: &[Moment], bottom: usize, colour: &str, share: impl Fn(&[Moment]) -> f64) -> String {
    let points: Vec<String> = strips(moments)
        .map(|(at, strip)| format!("{at:.1},{:.1}", bottom as f64 - share(strip).min(1.0) * PANEL as f64))
        .collect();
    format!("<polyline fill=\"none\" stroke=\"{colour}\" points=\"{}\"/>\n", points.join(" "))
}

/// The moments in strips of the same length, each with where it stands across the plot.
fn strips(moments: &[Moment]) -> impl Iterator<Item = (f64, &[Moment])> {
    let each = moments.len().div_ceil(POINTS).max(1);
    let across = WIDTH as f64 * each as f64 / moments.len().max(1) as f64;
    moments.chunks(each).enumerate().map(move |(index, strip)| (MARGIN as f64 + index as f64 * across, strip))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace(char::is_control, " ")
}
