//! The alerts of Prometheus.

use std::collections::{BTreeMap, BTreeSet};

use doorstep_gateway_common::Reason;
use serde::Deserialize;

use crate::{promtool_likes, query, read, repository};

const RULES: &str = "deploy/prometheus/doorstep.rules.yml";
const TESTS: &str = "deploy/prometheus/doorstep.rules.test.yml";
/// The commands of which the reference is a list.
const COMMANDS: &str = "docs/reference/cli.md";

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    rules: Vec<Alert>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alert {
    alert: String,
    expr: String,
    #[serde(rename = "for")]
    lasting: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

fn alerts() -> Vec<(String, Alert)> {
    let rules: Rules = serde_saphyr::from_str(&read(RULES)).expect(RULES);
    let groups = rules.groups.into_iter();
    let named = |group: Group| {
        let name = group.name;
        group
            .rules
            .into_iter()
            .map(move |alert| (name.clone(), alert))
    };
    groups.flat_map(named).collect()
}

#[test]
fn alerts_name_what_there_is_and_say_what_to_do() {
    let mut names = BTreeSet::new();
    for (group, alert) in alerts() {
        let name = &alert.alert;
        assert!(names.insert(name.clone()), "{name} is there twice");
        assert!(!alert.lasting.is_empty(), "{name}");
        let expr = alert.expr.trim();
        let named = query::check(expr).unwrap_or_else(|error| panic!("{name}: {error}"));
        let own = format!("{}_", group.replace('-', "_"));
        let foreign = named.families.iter().find(|one| !one.starts_with(&own));
        assert_eq!(foreign, None, "{name} in {group}");
        let daemon = group.split('-').next_back().expect("a daemon");
        let begins = format!("doorstep{daemon}");
        assert!(
            name.to_lowercase().starts_with(&begins),
            "{name} in {group}"
        );

        let severity = alert.labels.get("severity").map(String::as_str);
        assert!(
            matches!(severity, Some("critical" | "warning")),
            "{name}: {severity:?}"
        );
        assert_eq!(alert.labels.len(), 1, "{name}");
        let keys: Vec<_> = alert.annotations.keys().map(String::as_str).collect();
        assert_eq!(keys, ["description", "summary"], "{name}");
        for told in alert.annotations.values() {
            for used in told.split("$labels.").skip(1) {
                let end = used.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
                let label = &used[..end.unwrap_or(used.len())];
                assert!(
                    named.labels.contains(label),
                    "{name}: no label {label} is left"
                );
            }
        }
        commands(name, &alert.annotations["description"]);
    }
}

/// There is a command to type, and the program has it.
fn commands(alert: &str, description: &str) {
    let reference = read(COMMANDS);
    let quoted = description.split('`').skip(1).step_by(2);
    let ours: Vec<_> = quoted
        .filter(|text| text.starts_with("doorstep-"))
        .collect();
    assert!(
        !ours.is_empty() || description.contains('`'),
        "{alert}: nothing to type"
    );
    for command in ours {
        let mut words = command.split_whitespace();
        let program = words.next().expect("a program");
        let head = format!("\n## {program}\n");
        let (_, section) = reference
            .split_once(&head)
            .expect("a section of the reference");
        let section = section.split("\n## ").next().expect("its text");
        for word in words.filter(|word| word.starts_with(|c: char| c == '-' || c.is_lowercase())) {
            let known = section.split(|c: char| c != '-' && !c.is_alphanumeric());
            assert!(
                word.contains('/') || known.into_iter().any(|known| known == word),
                "{alert}: {COMMANDS} has no {word} of {program}"
            );
        }
    }
}

/// The alert about drops takes all reasons that are, but for what is above the sessions' rates.
#[test]
fn drops_are_those_of_the_code() {
    let (_, alert) = alerts()
        .into_iter()
        .find(|(_, alert)| alert.alert == "DoorstepGatewayDrops")
        .expect("the alert");
    let named = query::check(alert.expr.trim()).expect("a query");
    let rates = ["policed_upstream", "policed_downstream", "shaper_full"];
    let drops = Reason::ALL.iter().filter(|reason| reason.is_drop());
    let names = drops.map(|reason| reason.name());
    let expected: BTreeSet<_> = names.filter(|name| !rates.contains(name)).collect();
    assert_eq!(named.selected[0], ("reason".to_owned(), expected));
}

/// Each alert has a test in which it fires, and one in which it does not.
#[test]
fn alerts_do_what_their_tests_say() {
    #[derive(Deserialize)]
    struct Tests {
        tests: Vec<Test>,
    }
    #[derive(Deserialize)]
    struct Test {
        input_series: Vec<Series>,
        #[serde(default)]
        promql_expr_test: Vec<Expected>,
        #[serde(default)]
        alert_rule_test: Vec<Fired>,
    }
    #[derive(Deserialize)]
    struct Series {
        series: String,
    }
    #[derive(Deserialize)]
    struct Expected {
        expr: String,
        exp_samples: Vec<serde_json::Value>,
    }
    #[derive(Deserialize)]
    struct Fired {
        alertname: String,
        exp_alerts: Vec<serde_json::Value>,
    }
    let tests: Tests = serde_saphyr::from_str(&read(TESTS)).expect(TESTS);
    let mut told = BTreeSet::new();
    for test in &tests.tests {
        for Series { series } in &test.input_series {
            // As it stands, or as it would be asked for where it is of a counter.
            let known = [series.clone(), format!("rate({series}[5m])")];
            let known = known.iter().any(|query| query::check(query).is_ok());
            assert!(known, "{series}: {:?}", query::check(series));
        }
        for Expected { expr, exp_samples } in &test.promql_expr_test {
            let rest = expr.strip_prefix("ALERTS{alertname=\"").expect(expr);
            let (alert, _) = rest.split_once('"').expect(expr);
            told.insert((alert, !exp_samples.is_empty()));
        }
        for Fired {
            alertname,
            exp_alerts,
        } in &test.alert_rule_test
        {
            told.insert((alertname, !exp_alerts.is_empty()));
        }
    }
    let alerts = alerts();
    let names = alerts.iter().map(|(_, alert)| alert.alert.as_str());
    let expected = names.flat_map(|name| [(name, false), (name, true)]);
    assert_eq!(told, expected.collect());

    let path = |file: &str| repository(file).to_str().expect("a path").to_owned();
    promtool_likes(&["check", "rules", &path(RULES)]);
    promtool_likes(&["test", "rules", &path(TESTS)]);
}
