//! The dashboards of Grafana.

use std::collections::{BTreeMap, BTreeSet};

use doorstep_gateway_common::Reason;
use serde_json::Value;

use crate::query::{self, DAEMONS, Named};
use crate::{promtool_likes, read};

/// Grafana's grid.
const COLUMNS: u64 = 24;
/// Prometheus' source is chosen on the dashboard.
const SOURCE: &str = "${datasource}";

fn dashboard(daemon: &str) -> Value {
    let text = read(&format!("deploy/grafana/{daemon}.json"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{daemon}.json: {error}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    let text = value[key].as_str();
    text.unwrap_or_else(|| panic!("no text {key} in {value}"))
}

/// As Grafana would send it, with intervals as it may set them.
fn sent(query: &str) -> String {
    query.replace("$__rate_interval", "2m")
}

fn checked(daemon: &str, place: &str, query: &str) -> Named {
    let named = query::check(&sent(query));
    let named = named.unwrap_or_else(|error| panic!("{daemon}.json, {place}: {error}"));
    let own = format!("doorstep_{daemon}_");
    let foreign = named.families.iter().find(|name| !name.starts_with(&own));
    assert_eq!(foreign, None, "{daemon}.json, {place}");
    named
}

#[test]
fn panels_name_what_there_is_and_all_of_it() {
    let mut queries = Vec::new();
    for (daemon, families, _) in DAEMONS {
        let board = dashboard(daemon);
        let mut shown = BTreeSet::new();
        for panel in list(&board, "panels") {
            let title = text(panel, "title");
            for target in list(panel, "targets") {
                let (expr, legend) = (text(target, "expr"), text(target, "legendFormat"));
                let named = checked(daemon, title, expr);
                for label in legend.split("{{").skip(1) {
                    let (label, _) = label.split_once("}}").expect("a closed label");
                    assert!(named.labels.contains(label), "{title}: {label} of {expr}");
                }
                unit_fits(
                    title,
                    text(&panel["fieldConfig"]["defaults"], "unit"),
                    expr,
                    &named,
                );
                dropped(title, &named);
                shown.extend(named.families);
                queries.push(sent(expr));
            }
        }
        let all: BTreeSet<_> = families.iter().map(|family| family.name).collect();
        assert_eq!(shown, all, "{daemon}.json shows every metric");
    }
    // As rules, which Prometheus' own parser reads.
    let rules: String = queries
        .iter()
        .enumerate()
        .map(|(number, query)| {
            format!(
                "  - record: panel:{number}\n    expr: {}\n",
                Value::from(query.as_str())
            )
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("panels.yml");
    std::fs::write(&file, format!("groups:\n- name: panels\n  rules:\n{rules}")).expect("written");
    let file = file.to_str().expect("a path");
    promtool_likes(&["check", "rules", "--lint=none", file]);
}

/// Base units are told by the names of metrics.
fn unit_fits(title: &str, unit: &str, expr: &str, named: &Named) {
    let measures = |end: &str| named.families.iter().all(|name| name.ends_with(end));
    let grows = named.functions.contains("rate");
    let fits = match unit {
        "s" => measures("_seconds"),
        "bps" => measures("_bytes_total") && grows && expr.ends_with(" * 8"),
        "pps" => measures("_packets_total") && grows,
        "reqps" | "cps" => grows,
        "percentunit" => expr.contains(" / "),
        "none" => !grows || expr.contains(" / "),
        other => panic!("{title}: say here what {other} is for"),
    };
    assert!(fits, "{title}: {expr} is not in {unit}");
}

/// What is called dropped is all that is, or some of it.
fn dropped(title: &str, named: &Named) {
    let drops = Reason::ALL.iter().filter(|reason| reason.is_drop());
    let drops: BTreeSet<_> = drops.map(|reason| reason.name()).collect();
    for (_, selected) in named.selected.iter().filter(|(label, _)| label == "reason") {
        match title.starts_with("Dropped, ") {
            true => assert_eq!(*selected, drops, "{title}"),
            false if title.starts_with("Dropped") || title == "Not given to it" => {
                assert!(selected.is_subset(&drops), "{title}: {selected:?}");
            }
            false => assert!(selected.is_disjoint(&drops), "{title}: {selected:?}"),
        }
    }
}

#[test]
fn they_can_be_imported_as_they_are() {
    let mut ids = BTreeSet::new();
    for (daemon, ..) in DAEMONS {
        let board = dashboard(daemon);
        assert!(
            ids.insert(text(&board, "uid").to_owned()),
            "{daemon}: the uid"
        );
        assert_eq!(
            board["id"],
            Value::Null,
            "{daemon}: Grafana gives it its id"
        );
        assert!(!text(&board, "title").is_empty(), "{daemon}");
        let variables = list(&board["templating"], "list");
        let names: BTreeSet<_> = variables.iter().map(|one| text(one, "name")).collect();
        assert!(names.contains("datasource"), "{daemon}: {names:?}");
        for variable in variables.iter().filter(|one| one["type"] == "query") {
            let query = text(&variable["query"], "query");
            assert_eq!(text(variable, "definition"), query, "{daemon}");
            let inner = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) = inner.and_then(|it| it.rsplit_once(", ")).expect(query);
            let named = checked(daemon, query, selector);
            assert!(named.labels.contains(label), "{daemon}: {query}");
        }
        sources(&board["templating"], daemon);
        let mut places = BTreeMap::new();
        let mut numbers = BTreeSet::new();
        for panel in list(&board, "panels") {
            let title = text(panel, "title");
            assert!(
                numbers.insert(panel["id"].as_u64()),
                "{title}: its number is not its own"
            );
            let row = panel["type"] == "row";
            assert_eq!(row, list(panel, "targets").is_empty(), "{title}");
            sources(panel, title);
            uses(panel, &names, title);
            let at = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
            let (x, y, w, h) = (at("x"), at("y"), at("w"), at("h"));
            assert!(x + w <= COLUMNS, "{title} is too wide");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                let other = places.insert(cell, title);
                assert_eq!(other, None, "{title} lies over another panel");
            }
        }
    }
}

/// Every source that is named is the one that is chosen.
fn sources(value: &Value, place: &str) {
    match value {
        Value::Object(fields) => {
            if let Some(source) = fields.get("datasource") {
                assert_eq!(source["uid"], SOURCE, "{place}");
            }
            fields.values().for_each(|field| sources(field, place));
        }
        Value::Array(items) => items.iter().for_each(|item| sources(item, place)),
        _ => {}
    }
}

/// Every variable that is used is there, or Grafana's own.
fn uses(panel: &Value, names: &BTreeSet<&str>, title: &str) {
    for target in list(panel, "targets") {
        for used in text(target, "expr").split('$').skip(1) {
            let end = used.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
            let name = &used[..end.unwrap_or(used.len())];
            assert!(
                name == "__rate_interval" || names.contains(name),
                "{title}: there is no variable {name}"
            );
        }
    }
}
