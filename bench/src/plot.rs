//! Packets per second by number of sessions, as a picture.

use std::fmt::Write as _;

use crate::load::Size;
use crate::report::Report;
use crate::throughput::Way;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
/// Of the part with the lines.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 560.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 340.0;
/// Between lines of the legend.
const LEADING: f64 = 24.0;

const COLOURS: [&str; Way::ALL.len()] = [
    "#444444", "#7fb3e0", "#a6d49f", "#1f6fb5", "#2e8b3d", "#c0392b",
];

/// The rows with 64-byte frames. Both axes begin at what is measured: one session, no packets.
pub fn svg(report: &Report) -> String {
    let rows = || report.rows.iter().filter(|row| row.size == Size::Small);
    let most = rows().map(|row| row.sessions).max().unwrap_or(1);
    let decades = f64::from(most).log10().max(1.0);
    let highest = rows().map(|row| row.mpps).fold(1.0, f64::max).ceil();
    let x = |sessions: f64| LEFT + (RIGHT - LEFT) * sessions.log10() / decades;
    let y = |mpps: f64| BOTTOM - (BOTTOM - TOP) * mpps / highest;

    let mut drawing = Drawing::new();
    drawing.text(
        LEFT,
        24.0,
        "start",
        "Mpps with 64-byte frames, by number of sessions",
    );
    let mut mpps = 0.0;
    while mpps <= highest {
        drawing.line((LEFT, y(mpps)), (RIGHT, y(mpps)), "#dddddd");
        drawing.text(LEFT - 8.0, y(mpps) + 4.0, "end", &format!("{mpps}"));
        mpps += 1.0;
    }
    for exponent in 0..=decades.floor() as i32 {
        let sessions = 10f64.powi(exponent);
        drawing.line((x(sessions), TOP), (x(sessions), BOTTOM), "#dddddd");
        drawing.text(x(sessions), BOTTOM + 20.0, "middle", &format!("{sessions}"));
    }
    for (k, (way, colour)) in Way::ALL.into_iter().zip(COLOURS).enumerate() {
        let mut points: Vec<(u32, f64)> = rows()
            .filter(|row| row.way == way && row.failed.is_none())
            .map(|row| (row.sessions, row.mpps))
            .collect();
        points.sort_by_key(|(sessions, _)| *sessions);
        let points: Vec<(f64, f64)> = points
            .into_iter()
            .map(|(sessions, mpps)| (x(f64::from(sessions)), y(mpps)))
            .collect();
        drawing.curve(&points, colour);
        let at = TOP + 10.0 + LEADING * k as f64;
        drawing.curve(&[(RIGHT + 20.0, at), (RIGHT + 44.0, at)], colour);
        drawing.text(RIGHT + 52.0, at + 4.0, "start", way.name());
    }
    let machine = &report.machine;
    let note = format!(
        "{}, Linux {}, {}: generator, gateway and sink on one CPU",
        machine.cpu_model, machine.kernel, machine.date
    );
    drawing.text(LEFT, HEIGHT - 14.0, "start", &note);
    drawing.finish()
}

struct Drawing(String);

impl Drawing {
    fn new() -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
        ))
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
        ));
    }

    /// A line through these points, with a dot on each.
    fn curve(&mut self, points: &[(f64, f64)], colour: &str) {
        let mut path = String::new();
        for (x, y) in points {
            // Writing to a string cannot fail.
            let _ = write!(path, "{x:.1},{y:.1} ");
        }
        self.add(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.trim_end()
        ));
        for (x, y) in points {
            self.add(format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            ));
        }
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{element}");
    }

    fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}
