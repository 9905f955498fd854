//! Plots over time, drawn by the server.

use maud::{Markup, html};

/// One line of a plot.
#[derive(Clone, Debug)]
pub struct Line {
    /// `up` or `down`, by which it is drawn.
    pub class: &'static str,
    pub name: &'static str,
    /// Evenly apart, the oldest first.
    pub values: Vec<f64>,
}

/// What a plot shows.
pub struct Plot<'a> {
    pub title: &'a str,
    pub lines: &'a [Line],
    /// Between two values, in seconds.
    pub step_s: i64,
    /// How a value is said.
    pub say: fn(f64) -> String,
}

// Units of the drawing: about pixels where the screen is narrow.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 4.0;
const RIGHT: f64 = 356.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 130.0;
/// Parts that the height is divided into.
const ROWS: u32 = 2;

impl Plot<'_> {
    pub fn draw(&self) -> Markup {
        let count = self.lines.iter().map(|line| line.values.len()).max();
        let count = count.unwrap_or(0);
        if count < 2 {
            return html! {
                figure {
                    figcaption { (self.title) }
                    p.notice { "There is nothing to show yet: gateways report every few seconds." }
                }
            };
        }
        let values = self.lines.iter().flat_map(|line| &line.values);
        let most = ceiling(values.copied().fold(0.0, f64::max));
        html! {
            figure {
                figcaption {
                    (self.title)
                    @for line in self.lines {
                        " · " span class={ "key " (line.class) } {} " " (line.name) " "
                        (line.values.last().copied().map(self.say).unwrap_or_default())
                    }
                }
                svg.plot viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.spoken()) {
                    @for row in 0..=ROWS {
                        @let value = most * f64::from(row) / f64::from(ROWS);
                        @let y = height(value, most);
                        line.grid x1=(LEFT) x2=(RIGHT) y1=(point(y)) y2=(point(y)) {}
                    }
                    @for line in self.lines {
                        polyline class={ "line " (line.class) } points=(points(&line.values, most)) {}
                    }
                    @for row in 0..=ROWS {
                        @let value = most * f64::from(row) / f64::from(ROWS);
                        text x=(LEFT) y=(point(height(value, most) - 3.0)) { ((self.say)(value)) }
                    }
                    text x=(LEFT) y=(HEIGHT - 4.0) { (self.ago(count)) }
                    text x=(RIGHT) y=(HEIGHT - 4.0) text-anchor="end" { "now" }
                }
            }
        }
    }

    fn ago(&self, count: usize) -> String {
        let seconds = i64::try_from(count).unwrap_or(0) * self.step_s;
        if seconds < 120 {
            format!("{seconds} s ago")
        } else {
            format!("{} min ago", seconds / 60)
        }
    }

    /// What it shows, for who does not see it.
    fn spoken(&self) -> String {
        let lines = self.lines.iter().map(|line| {
            let most = line.values.iter().copied().fold(0.0, f64::max);
            let last = line.values.last().copied().unwrap_or(0.0);
            format!(
                "{}: now {}, at most {}",
                line.name,
                (self.say)(last),
                (self.say)(most)
            )
        });
        let lines: Vec<_> = lines.collect();
        format!("{}. {}", self.title, lines.join("; "))
    }
}

/// The next of 1, 2, 5, 10, 20 and so on.
fn ceiling(value: f64) -> f64 {
    let mut step = 1.0;
    loop {
        for factor in [1.0, 2.0, 5.0] {
            if value <= step * factor || step > 1e18 {
                return step * factor;
            }
        }
        step *= 10.0;
    }
}

fn height(value: f64, most: f64) -> f64 {
    BOTTOM - (BOTTOM - TOP) * (value / most).clamp(0.0, 1.0)
}

fn point(value: f64) -> String {
    format!("{value:.1}")
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a plot has some dozens of values"
)]
fn points(values: &[f64], most: f64) -> String {
    let step = (RIGHT - LEFT) / (values.len().max(2) - 1) as f64;
    let places = values.iter().enumerate().map(|(index, value)| {
        let x = LEFT + step * index as f64;
        format!("{x:.1},{:.1}", height(*value, most))
    });
    places.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(values: &[f64]) -> String {
        let lines = [Line {
            class: "up",
            name: "up",
            values: values.to_vec(),
        }];
        let plot = Plot {
            title: "Throughput",
            lines: &lines,
            step_s: 10,
            say: |value| format!("{value:.0} b"),
        };
        plot.draw().into_string()
    }

    #[test]
    fn lines_fill_the_drawing() {
        let text = plot(&[0.0, 25.0, 50.0]);
        assert!(
            text.contains("points=\"4.0,130.0 180.0,73.0 356.0,16.0\""),
            "{text}"
        );
        assert!(text.contains("up: now 50 b, at most 50 b"), "{text}");
        assert!(text.contains(">30 s ago<"), "{text}");
        assert!(!text.contains("style="));
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        assert!(plot(&[]).contains("nothing to show yet"));
        assert!(plot(&[1.0]).contains("nothing to show yet"));
        assert!(plot(&[0.0, 0.0]).contains("130.0 356.0,130.0"));
    }

    #[test]
    fn scales_are_round() {
        for (value, most) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (1.1, 2.0),
            (3.0, 5.0),
            (51.0, 100.0),
            (2e9, 2e9),
        ] {
            assert_eq!(ceiling(value), most);
        }
        assert!(ceiling(f64::MAX).is_finite());
    }
}
