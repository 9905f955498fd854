//! From the file as written to a configuration that holds together.

use std::path::Path;

use doorstep_gateway_common::operator::MAX_OPERATORS;
use toml::Spanned;

use super::operator::{Check, Seen};
use super::problem::Problems;
use super::{AccessPort, Config, ConfigError, Indexes, garden, raw};

const DEFAULT_DELEGATED_PREFIX_LEN: u8 = 56;
const DEFAULT_MAX_SESSIONS: u32 = 65_536;
/// Two counter entries per session, and one index type of 32 bits for them.
const MAX_SESSIONS: u32 = 1 << 22;
const DEFAULT_ACCOUNTING_INTERVAL_MS: u64 = 10_000;
const MIN_ACCOUNTING_INTERVAL_MS: u64 = 100;
const MAX_NAME: usize = 64;
/// `IFNAMSIZ` less the closing zero.
const MAX_PORT_NAME: usize = 15;

pub(super) fn config(file: &Path, text: &str, raw: raw::Config) -> Result<Config, ConfigError> {
    let mut problems = Problems::new(text);
    let folder = file.parent().unwrap_or(Path::new(""));

    name(&mut problems, "the gateway's id", &raw.id);
    let delegated_prefix_len = ranged(
        &mut problems,
        "delegated_prefix_len",
        raw.delegated_prefix_len,
        DEFAULT_DELEGATED_PREFIX_LEN,
        48..=64,
    );
    let max_sessions = ranged(
        &mut problems,
        "max_sessions",
        raw.max_sessions,
        DEFAULT_MAX_SESSIONS,
        1..=MAX_SESSIONS,
    );
    let accounting_interval_ms = ranged(
        &mut problems,
        "accounting_interval_ms",
        raw.accounting_interval_ms,
        DEFAULT_ACCOUNTING_INTERVAL_MS,
        MIN_ACCOUNTING_INTERVAL_MS..=86_400_000,
    );
    let limits = garden::limits(&mut problems, raw.garden);
    let access_ports = access_ports(&mut problems, raw.access_port);
    let mut seen = Seen::default();
    let span = raw.operator.span();
    let operators = raw.operator.into_inner();
    if operators.is_empty() {
        problems.add(span.clone(), "an [[operator]] is needed");
    } else if operators.len() >= MAX_OPERATORS as usize {
        let what = format_args!("a gateway serves at most {} operators", MAX_OPERATORS - 1);
        problems.add(span.clone(), what);
    }
    let operators: Vec<_> = operators
        .into_iter()
        .map(|operator| {
            let check = Check {
                problems: &mut problems,
                seen: &mut seen,
                folder,
                access_ports: &access_ports,
                delegated_prefix_len,
                garden: &limits,
            };
            check.operator(operator)
        })
        .collect();
    garden::together(&mut problems, span, raw.id.get_ref(), &limits, &operators);

    let found = problems.into_found();
    if !found.is_empty() {
        return Err(ConfigError::Invalid {
            file: file.to_owned(),
            problems: found,
        });
    }
    let mut config = Config {
        file: file.to_owned(),
        id: raw.id.into_inner(),
        state_dir: folder.join(raw.state_dir),
        pin_path: folder.join(raw.pin_path),
        admin_socket: folder.join(raw.admin_socket),
        inventory: folder.join(raw.inventory),
        delegated_prefix_len,
        line_prefixes: raw.line_prefixes,
        max_sessions,
        xdp_mode: raw.xdp_mode,
        shaper: raw.shaper,
        accounting_interval_ms,
        garden: limits,
        metrics: raw.metrics,
        traces: raw.traces.map(|traces| traces.below(folder)),
        access_ports,
        operators,
    };
    // As if nothing were known, so that they are told apart.
    config
        .set_indexes(&Indexes::new())
        .map_err(|source| ConfigError::Index {
            file: file.to_owned(),
            source,
        })?;
    Ok(config)
}

fn access_ports(
    problems: &mut Problems<'_>,
    ports: Spanned<Vec<raw::AccessPort>>,
) -> Vec<AccessPort> {
    if ports.get_ref().is_empty() {
        problems.add(ports.span(), "an [[access_port]] is needed");
    }
    let mut known: Vec<AccessPort> = Vec::new();
    for raw::AccessPort { name } in ports.into_inner() {
        port_name(problems, "access port", &name);
        if known.iter().any(|port| port.name == *name.get_ref()) {
            problems.add(
                name.span(),
                format_args!("access port '{}' is named twice", name.get_ref()),
            );
        }
        known.push(AccessPort {
            name: name.into_inner(),
        });
    }
    known
}

/// The value; the nearest of the range for one outside of it, which is told, so that what follows from
/// it can be checked all the same.
pub(super) fn ranged<T: PartialOrd + Copy + std::fmt::Display>(
    problems: &mut Problems<'_>,
    field: &str,
    value: Option<Spanned<T>>,
    default: T,
    range: std::ops::RangeInclusive<T>,
) -> T {
    let Some(value) = value else { return default };
    let (start, end) = (*range.start(), *range.end());
    if !range.contains(value.get_ref()) {
        problems.add(
            value.span(),
            format_args!("{field} = {} is not in {start}..={end}", value.get_ref()),
        );
    }
    match value.into_inner() {
        value if value < start => start,
        value if value > end => end,
        value => value,
    }
}

pub(super) fn name(problems: &mut Problems<'_>, what: &str, value: &Spanned<String>) {
    let text = value.get_ref();
    let fits = (1..=MAX_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !fits {
        problems.add(
            value.span(),
            format_args!("{what} is 1..={MAX_NAME} of letters, digits, '-', '_', '.'"),
        );
    }
}

pub(super) fn port_name(problems: &mut Problems<'_>, what: &str, value: &Spanned<String>) {
    let text = value.get_ref();
    let fits = (1..=MAX_PORT_NAME).contains(&text.len())
        && text != "."
        && text != ".."
        && !text
            .chars()
            .any(|char| char == '/' || char == ':' || char.is_whitespace() || char.is_control());
    if !fits {
        problems.add(
            value.span(),
            format_args!("{what} '{}' is not a port's name: 1..={MAX_PORT_NAME} bytes without spaces, '/', ':'", text.escape_debug()),
        );
    }
}
