//! What collectors of traces are told of a request: how the session went from state to state.

use std::sync::Arc;

use doorstep_daemon::traces::{ROOT, Span, Trace, Traces};
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::session::State;
use crate::store::StepRow;

/// Tells of every way that comes to its end, until the server stops.
pub async fn follow(
    engine: Arc<Engine>,
    mut ends: Receiver<Arc<StepRow>>,
    traces: Traces,
    stop: CancellationToken,
) {
    let work = async {
        while let Some(last) = ends.recv().await {
            match engine.store.steps(last.session, None).await {
                Ok(steps) => {
                    let trace = Trace {
                        session: last.session,
                        generation: last.generation,
                    };
                    let way = way(&steps, &last);
                    traces.tell(trace, spans(&way));
                    for (generation, span) in steps_before(&way) {
                        traces.tell(
                            Trace {
                                generation,
                                ..trace
                            },
                            [span],
                        );
                    }
                }
                Err(error) => {
                    tracing::debug!(session = %last.session, %error, "no trace of its way");
                }
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// The steps that have led to this one since the session was settled last.
fn way<'a>(steps: &'a [StepRow], last: &StepRow) -> Vec<&'a StepRow> {
    let end = steps.iter().position(|step| step.id == last.id);
    let steps = &steps[..end.map_or(0, |end| end + 1)];
    let before = steps.iter().rev().skip(1);
    let length = 1 + before.take_while(|step| !step.state.is_settled()).count();
    steps[steps.len().saturating_sub(length)..].iter().collect()
}

fn spans(way: &[&StepRow]) -> Vec<Span> {
    let [first, .., last] = way else {
        // Settled all along: another service, another router.
        return Vec::new();
    };
    let name = match first.state {
        State::Disconnecting | State::DisconnectingUnconfirmed if last.state == State::Released => {
            "release"
        }
        State::Disconnecting | State::DisconnectingUnconfirmed => "move",
        _ => "connect",
    };
    let root = Span {
        within: None,
        attributes: vec![
            ("doorstep.state", last.state.name().to_owned()),
            ("doorstep.gateway", last.gateway.clone()),
            ("doorstep.asked_by", kind_of(&first.who).to_owned()),
        ],
        // Why stands in the table: it may name addresses and places.
        failed: (last.state == State::Refused).then(|| "refused by the gateway".to_owned()),
        links: steps_before(way)
            .map(|(generation, _)| generation)
            .collect(),
        ..Span::new(ROOT, name, (first.at_ms, last.at_ms))
    };
    let stretches = way.windows(2).enumerate().map(|(at, pair)| Span {
        attributes: vec![("doorstep.gateway", pair[0].gateway.clone())],
        ..Span::new(
            &format!("server {at}"),
            pair[0].state.name(),
            (pair[0].at_ms, pair[1].at_ms),
        )
    });
    std::iter::once(root).chain(stretches).collect()
}

/// What the way had before its last generation, such as the disconnect of a move: it has a trace, and so a
/// root, of its own.
fn steps_before<'a>(way: &'a [&'a StepRow]) -> impl Iterator<Item = (u64, Span)> + 'a {
    let last = way.last().map_or(0, |step| step.generation);
    let parts = way.chunk_by(|one, next| one.generation == next.generation);
    let before = parts.filter(move |part| part[0].generation != last);
    before.map(move |part| {
        let (first, generation) = (part[0], part[0].generation);
        let mut later = way.iter().filter(|step| step.generation > generation);
        let end_ms = later.next().map_or(first.at_ms, |step| step.at_ms);
        let root = Span {
            within: None,
            attributes: vec![("doorstep.gateway", first.gateway.clone())],
            ..Span::new(ROOT, first.state.name(), (first.at_ms, end_ms))
        };
        (generation, root)
    })
}

/// Whose it was, without a name.
fn kind_of(who: &str) -> &str {
    who.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn steps(states: &[(State, u64)]) -> Vec<StepRow> {
        let steps = (1..)
            .zip(states)
            .map(|(number, (state, generation))| StepRow {
                id: Uuid::from_u128(number),
                previous: None,
                session: Uuid::nil(),
                generation: *generation,
                state: *state,
                gateway: "gw1".to_owned(),
                detail: "why".to_owned(),
                who: "subscriber".to_owned(),
                at_ms: 10 * number as i64,
            });
        steps.collect()
    }

    #[test]
    fn a_way_begins_where_the_last_one_ended() {
        use State::{Connecting, Disconnecting, Established, Establishing, Refused, Released};
        let all = steps(&[
            (Connecting, 1),
            (Establishing, 1),
            (Established, 1),
            (Established, 1),
            (Disconnecting, 2),
            (Connecting, 3),
            (Establishing, 3),
            (Established, 3),
            (Disconnecting, 4),
            (Released, 4),
            (Connecting, 5),
            (Refused, 5),
        ]);
        let told = |number: usize| {
            let spans = spans(&way(&all, &all[number - 1]));
            let of = |span: &Span| {
                (
                    span.name.to_string(),
                    span.began_unix_ms,
                    span.ended_unix_ms,
                )
            };
            let failed = spans.first().and_then(|root| root.failed.clone());
            let links = spans.first().map(|root| root.links.clone());
            (spans.iter().map(of).collect::<Vec<_>>(), failed, links)
        };
        let span = |name: &str, from, to| (name.to_owned(), from, to);
        let connect = vec![
            span("connect", 10, 30),
            span("connecting", 10, 20),
            span("establishing", 20, 30),
        ];
        assert_eq!(told(3), (connect, None, Some(vec![])));
        assert_eq!(told(4), (vec![], None, None));
        let moved = vec![
            span("move", 50, 80),
            span("disconnecting", 50, 60),
            span("connecting", 60, 70),
            span("establishing", 70, 80),
        ];
        assert_eq!(told(8), (moved, None, Some(vec![2])));
        let released = vec![span("release", 90, 100), span("disconnecting", 90, 100)];
        assert_eq!(told(10), (released, None, Some(vec![])));
        let refused = vec![span("connect", 110, 120), span("connecting", 110, 120)];
        let failed = Some("refused by the gateway".to_owned());
        assert_eq!(told(12), (refused, failed, Some(vec![])));
        let way = way(&all, &all[7]);
        let before: Vec<_> = steps_before(&way)
            .map(|(generation, root)| (generation, root.name.into_owned(), root.ended_unix_ms))
            .collect();
        assert_eq!(before, [(2, "disconnecting".to_owned(), 60)]);
    }

    #[test]
    fn nobody_is_named() {
        assert_eq!(kind_of("account alice"), "account");
        assert_eq!(kind_of("subscriber"), "subscriber");
    }
}
