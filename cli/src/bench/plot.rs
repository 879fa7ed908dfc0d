//! A plot of throughput against stripe count, as SVG.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::report::{Measure, Report};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 210.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 50.0;
const COLORS: [&str; 8] =
    ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f"];

/// One line for each phase and number of jobs; both axes begin at zero.
pub(crate) fn svg(report: &Report) -> String {
    let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for measure in &report.measures {
        if let Some(count) = measure.stripe_count {
            lines.entry(label(measure)).or_default().push((f64::from(count), measure.value));
        }
    }
    let points = || lines.values().flatten();
    let most_x = points().map(|p| p.0).fold(1.0, f64::max);
    let most_y = points().map(|p| p.1).fold(1.0, f64::max) * 1.05;
    let x = |v: f64| LEFT + v / most_x * (WIDTH - LEFT - RIGHT);
    let y = |v: f64| HEIGHT - BOTTOM - v / most_y * (HEIGHT - TOP - BOTTOM);

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    axes(&mut out, most_x, most_y, &x, &y);
    for (n, (name, line)) in lines.iter().enumerate() {
        let color = COLORS.get(n % COLORS.len()).copied().unwrap_or("black");
        let path: Vec<String> =
            line.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let path = path.join(" ");
        let _ = writeln!(
            out,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"
        );
        for (a, b) in line {
            let (cx, cy) = (x(*a), y(*b));
            let _ =
                writeln!(out, "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\" fill=\"{color}\"/>");
        }
        #[expect(clippy::cast_precision_loss, reason = "a handful of lines")]
        let at = TOP + 16.0 * n as f64;
        let left = WIDTH - RIGHT + 15.0;
        let _ = writeln!(out, "<text x=\"{left}\" y=\"{at}\" fill=\"{color}\">{name}</text>");
    }
    out.push_str("</svg>\n");
    out
}

fn label(measure: &Measure) -> String {
    format!("{}, {} jobs", measure.what, measure.jobs)
}

fn axes(
    out: &mut String,
    most_x: f64,
    most_y: f64,
    x: &impl Fn(f64) -> f64,
    y: &impl Fn(f64) -> f64,
) {
    let (left, right, bottom, top) = (x(0.0), x(most_x), y(0.0), y(most_y));
    let _ = writeln!(
        out,
        "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>"
    );
    for step in 0..=4 {
        let share = f64::from(step) / 4.0;
        let (value, at) = (most_y * share, y(most_y * share));
        let text = left - 6.0;
        let _ = writeln!(
            out,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{text}\" y=\"{at:.1}\" text-anchor=\"end\">{value:.0}</text>"
        );
    }
    let mut count = 1.0;
    while count <= most_x {
        let (at, below) = (x(count), bottom + 18.0);
        let _ = writeln!(
            out,
            "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{count}</text>"
        );
        count *= 2.0;
    }
    let (middle, below) = (f64::midpoint(left, right), HEIGHT - 10.0);
    let _ = writeln!(
        out,
        "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">stripe count</text>\
         <text x=\"14\" y=\"{top}\" transform=\"rotate(-90 14 {top})\" text-anchor=\"end\">MiB/s\
         </text>"
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::data::{Access, Workload};
    use super::*;
    use crate::size::ByteSize;

    #[test]
    fn every_measured_stripe_count_is_a_point() {
        let work = Workload {
            access: Access::SequentialRead,
            block: ByteSize(1 << 20),
            jobs: 2,
            size: 1 << 20,
            limit: Duration::from_secs(1),
        };
        let mut report = Report::default();
        for count in [1, 2, 4] {
            report.add(Measure::data(&work, count, 5e8, 1e9));
        }
        let svg = svg(&report);
        assert_eq!(svg.matches("<circle").count(), 3);
        assert_eq!(svg.matches("<polyline").count(), 1);
        assert!(svg.contains("sequential read 1M, 2 jobs"));
    }
}
