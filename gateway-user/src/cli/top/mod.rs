//! `top`: rates by uplink, the busiest lines, drops, punts, and how full the maps are.

mod picture;

use std::time::Instant;

use clap::Args;
use doorstep_daemon::client::refused;
use doorstep_daemon::stop;
use doorstep_daemon::top::{self, Column, Options, Screen, Sorted, plain};
use doorstep_proto::v1;
use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout};

use super::show::{Client, connect};
use crate::config::DEFAULT_SOCKET;
use picture::{Look, Picture, picture};

#[derive(Args)]
pub struct Top {
    #[command(flatten)]
    options: Options,
    /// Socket of the daemon
    #[arg(long, value_name = "PATH", env = "DOORSTEP_GATEWAY_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: std::path::PathBuf,
}

const UPLINKS: [Column; 6] = [
    Column::text("OPERATOR", 14),
    Column::text("UPLINK", 12),
    Column::text("SERVER", 9),
    Column::number("SESSIONS", 8),
    Column::number("UP", 13),
    Column::number("DOWN", 13),
];
const LINES: [Column; 6] = [
    Column::text("LINE", 20),
    Column::text("LOCATION", 36),
    Column::text("OPERATOR", 14),
    Column::number("UP", 13),
    Column::number("DOWN", 13),
    Column::number("POLICED", 10),
];
/// The busiest lines come first.
const DOWN: usize = 4;
const REASONS: [Column; 3] = [
    Column::text("REASON", 20),
    Column::number("RATE", 10),
    Column::number("PACKETS", 14),
];
const MAPS: [Column; 3] = [
    Column::text("MAP", 14),
    Column::number("ROWS", 9),
    Column::number("FULL", 7),
];
const HELP: &str = "arrows: rows, column to sort by   r: the other way round   q: end";

pub async fn run(args: Top) -> anyhow::Result<()> {
    let mut client = connect(&args.socket).await?;
    let look = async || look(&mut client).await;
    top::run(
        look,
        &mut Shown::default(),
        &args.options,
        stop::on_signal()?,
    )
    .await
}

async fn look(client: &mut Client) -> anyhow::Result<Look> {
    let status = client.status(v1::GatewayStatusRequest {}).await;
    let status = status.map_err(refused)?.into_inner();
    let answer = client.sessions(v1::GatewaySessionsRequest::default()).await;
    let mut parts = answer.map_err(refused)?.into_inner();
    let at = Instant::now();
    let mut sessions = Vec::new();
    while let Some(part) = parts.message().await.map_err(refused)? {
        sessions.extend(part.sessions);
    }
    Ok(Look {
        at,
        status,
        sessions,
    })
}

/// What is drawn, apart from where it comes from.
struct Shown {
    last: Option<Look>,
    picture: Picture,
    sorted: Sorted,
}

impl Default for Shown {
    fn default() -> Self {
        Shown {
            last: None,
            picture: Picture::default(),
            sorted: Sorted {
                column: DOWN,
                ..Sorted::default()
            },
        }
    }
}

impl Screen for Shown {
    type Look = Look;

    fn take(&mut self, look: Look) {
        self.picture = picture(self.last.as_ref(), &look);
        self.sorted.sort(&mut self.picture.lines);
        self.last = Some(look);
    }

    fn key(&mut self, key: KeyCode) {
        self.sorted.key(key, LINES.len(), self.picture.lines.len());
        self.sorted.sort(&mut self.picture.lines);
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let Picture {
            head,
            uplinks,
            lines,
            drops,
            punts,
            maps,
        } = &self.picture;
        let rows = |count: usize, most: u16| {
            let rows = u16::try_from(count).unwrap_or(most).clamp(1, most);
            Constraint::Length(rows + 3)
        };
        let [top, above, middle, below, help] = Layout::vertical([
            Constraint::Length(1),
            rows(uplinks.len().max(maps.len()), 8),
            rows(drops.len().max(punts.len()), 10),
            Constraint::Min(4),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(head.as_str(), top);
        let [left, right] =
            Layout::horizontal([Constraint::Min(60), Constraint::Length(36)]).areas(above);
        plain(frame, left, "uplinks", &UPLINKS, uplinks);
        plain(frame, right, "maps", &MAPS, maps);
        let [left, right] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(middle);
        plain(frame, left, "dropped", &REASONS, drops);
        plain(frame, right, "given to the daemon", &REASONS, punts);
        self.sorted.draw(frame, below, "lines", &LINES, lines);
        frame.render_widget(HELP, help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(shown: &Shown, size: (u16, u16)) -> String {
        top::text(shown, size).expect("drawn")
    }

    #[test]
    fn all_of_it_is_on_the_screen() {
        let (before, now) = picture::tests::looks();
        let mut shown = Shown::default();
        shown.take(before);
        shown.take(now);
        let text = drawn(&shown, (120, 40));
        for seen in [
            "gateway gw1   3 established",
            "not up: access0",
            "north           uplink0       connected",
            "16.0 kbit/s",
            "160 kbit/s",
            "UPSTREAM_V4           900   90.0 %",
            "source_not_bound          250 /s             600",
            "punt_dhcp",
            "DOWN*",
            "access0/1.1",
            "q: end",
        ] {
            assert!(text.contains(seen), "{seen}:\n{text}");
        }
        let place = |text: &str, line: &str| text.find(line).expect("a line");
        assert!(place(&text, "access0/1.1") < place(&text, "access0/1.2"));
        shown.key(KeyCode::Char('r'));
        let text = drawn(&shown, (120, 40));
        assert!(
            place(&text, "access0/1.2") < place(&text, "access0/1.1"),
            "{text}"
        );
        // Too small for all of it is no reason to fail.
        drawn(&shown, (20, 5));
        drawn(&Shown::default(), (120, 40));
    }
}
