//! `top`: sessions by state, moves under way and stuck, gateways, and what was refused.

mod picture;

use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use doorstep_daemon::client::refused;
use doorstep_daemon::output::Output;
use doorstep_daemon::stop;
use doorstep_daemon::top::{self, Column, Options, Screen, Sorted, plain};
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::operator_client::OperatorClient;
use doorstep_server::engine::now_ms;
use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout};
use tonic::transport::Channel;

use super::{Socket, client};
use picture::{Look, Picture, WAITING, picture};

/// Sessions that are asked for, of those that wait for a receipt.
const MOST_WAITING: u32 = 1000;

#[derive(Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    socket: Socket,
}

const STATES: [Column; 3] = [
    Column::text("STATE", 26),
    Column::number("SESSIONS", 10),
    Column::number("CHANGE", 8),
];
const REFUSED: [Column; 3] = [
    Column::text("LIMIT", 20),
    Column::number("RATE", 10),
    Column::number("COUNT", 12),
];
const MOVES: [Column; 5] = [
    Column::text("SESSION", 36),
    Column::text("RECEIPT", 9),
    Column::text("FROM", 20),
    Column::text("TO", 20),
    Column::number("FOR", 14),
];
/// The oldest first.
const FOR: usize = 4;
const GATEWAYS: [Column; 6] = [
    Column::text("GATEWAY", 24),
    Column::text("STREAM", 9),
    Column::number("FOR", 14),
    Column::number("SESSIONS", 10),
    Column::number("RECEIPTS", 10),
    Column::text("VERSION", 16),
];
const HELP: &str =
    "arrows: rows, column to sort by   r: the other way round   tab: the other table   q: end";

pub async fn run(args: TopArgs, output: Output) -> Result<()> {
    ensure!(
        output == Output::Table,
        "top draws for people; as JSON there are `status`, `gateways` and `sessions list`"
    );
    let mut client = client::connect(&args.socket.socket).await?;
    let look = async || look(&mut client).await;
    top::run(
        look,
        &mut Shown::default(),
        &args.options,
        stop::on_signal()?,
    )
    .await
}

async fn look(client: &mut OperatorClient<Channel>) -> Result<Look> {
    let status = client.status(pb::OperatorStatusRequest {}).await;
    let status = status.map_err(refused)?.into_inner();
    let gateways = client.list_gateways(pb::ListGatewaysRequest {}).await;
    let gateways = gateways.map_err(refused)?.into_inner().gateways;
    let (at, unix_ms) = (Instant::now(), now_ms());
    let page = client.list_sessions(pb::ListSessionsRequest {
        limit: MOST_WAITING,
        states: WAITING.map(i32::from).to_vec(),
        ..Default::default()
    });
    let page = page.await.map_err(refused)?.into_inner();
    Ok(Look {
        at,
        unix_ms,
        status,
        gateways,
        waiting: page.sessions,
        more_waiting: !page.next_page_token.is_empty(),
    })
}

/// What is drawn, apart from where it comes from.
struct Shown {
    last: Option<Look>,
    picture: Picture,
    moves: Sorted,
    gateways: Sorted,
    /// Which of the two the keys are for.
    at_gateways: bool,
}

impl Default for Shown {
    fn default() -> Self {
        Shown {
            last: None,
            picture: Picture::default(),
            moves: Sorted {
                column: FOR,
                ..Sorted::default()
            },
            gateways: Sorted::default(),
            at_gateways: false,
        }
    }
}

impl Shown {
    fn sort(&mut self) {
        self.moves.sort(&mut self.picture.moves);
        self.gateways.sort(&mut self.picture.gateways);
    }
}

impl Screen for Shown {
    type Look = Look;

    fn take(&mut self, look: Look) {
        self.picture = picture(self.last.as_ref(), &look);
        self.last = Some(look);
        self.sort();
    }

    fn key(&mut self, key: KeyCode) {
        match (key, self.at_gateways) {
            (KeyCode::Tab | KeyCode::BackTab, _) => self.at_gateways = !self.at_gateways,
            (key, false) => {
                let rows = self.picture.moves.len();
                self.moves.key(key, MOVES.len(), rows);
            }
            (key, true) => {
                let rows = self.picture.gateways.len();
                self.gateways.key(key, GATEWAYS.len(), rows);
            }
        }
        self.sort();
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let Picture {
            head,
            states,
            refused,
            moves,
            more_moves,
            gateways,
        } = &self.picture;
        let rows = u16::try_from(states.len().max(refused.len())).unwrap_or(u16::MAX);
        let [top, above, middle, below, help] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(rows.clamp(1, 13) + 3),
            Constraint::Fill(1),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(head.as_str(), top);
        let [left, right] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(above);
        plain(frame, left, "sessions", &STATES, states);
        plain(frame, right, "not taken", &REFUSED, refused);
        let title = |name: &str, mine: bool| match mine {
            true => format!("> {name}"),
            false => name.to_owned(),
        };
        let waiting = match more_moves {
            true => "moves and ends that wait for a receipt, 1000 of more",
            false => "moves and ends that wait for a receipt",
        };
        let waiting = title(waiting, !self.at_gateways);
        self.moves.draw(frame, middle, &waiting, &MOVES, moves);
        let all = title("gateways", self.at_gateways);
        self.gateways.draw(frame, below, &all, &GATEWAYS, gateways);
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
            "operator north-net   1 of 2 gateways connected",
            "connecting",
            "source-rate",
            "> moves and ends that wait for a receipt, 1000 of more",
            "under way",
            "1 min 30 s",
            "25 /s",
            "q: end",
        ] {
            assert!(text.contains(seen), "{seen}:\n{text}");
        }
        let place = |text: &str, word: &str| text.find(word).expect("it is there");
        assert!(
            place(&text, "stuck") < place(&text, "under way"),
            "the oldest first"
        );
        assert!(place(&text, "│gw1") < place(&text, "│gw2"));
        shown.key(KeyCode::Tab);
        shown.key(KeyCode::Char('r'));
        let text = drawn(&shown, (120, 40));
        assert!(text.contains("> gateways"), "{text}");
        assert!(place(&text, "│gw2") < place(&text, "│gw1"), "{text}");
        // Too small for all of it is no reason to fail.
        drawn(&shown, (20, 5));
        drawn(&Shown::default(), (120, 40));
    }
}
