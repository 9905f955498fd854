//! What a query in PromQL names, held against what the daemons have.
//!
//! ```text
//! metrics     are families of a daemon; those of histograms with _bucket, _sum or _count
//! labels      of a selector are the family's, or the scrape's own (job, instance), or a bucket's le;
//!             of `by`, `on`, legends: what is left of them at that place
//! values      of labels that can have so many and no more: each alternative of a pattern fits one
//! counters    stand within rate or increase, and nothing else does
//! operators   between two vectors have the same labels on both sides, or say which
//! ```

use std::collections::BTreeSet;

use doorstep_daemon::metrics::{Family, Kind};
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorSelector, parse,
};

type Values = fn(&Family, &str) -> Option<Vec<&'static str>>;

/// A daemon's families, and the values that their labels can have.
pub const DAEMONS: [(&str, &[&Family], Values); 3] = [
    (
        "gateway",
        doorstep_gateway::metrics::FAMILIES,
        doorstep_gateway::metrics::label_values,
    ),
    (
        "server",
        doorstep_server::metrics::FAMILIES,
        doorstep_server::metrics::label_values,
    ),
    (
        "terminal",
        doorstep_terminal::daemon::metrics::FAMILIES,
        doorstep_terminal::daemon::metrics::label_values,
    ),
];

/// What Prometheus puts on every series that it scrapes.
const SCRAPE: [&str; 2] = ["job", "instance"];
/// A gauge that Prometheus makes itself.
const UP: &str = "up";

/// What a query was found to name.
#[derive(Debug, Default)]
pub struct Named {
    /// Families, without the suffixes of histograms.
    pub families: BTreeSet<&'static str>,
    /// The labels of its result; none of a number.
    pub labels: BTreeSet<String>,
    /// Per label with so many values and no more: those that the selectors leave.
    pub selected: Vec<(String, BTreeSet<&'static str>)>,
    /// Functions that are called.
    pub functions: BTreeSet<&'static str>,
}

/// Checks a query.
pub fn check(text: &str) -> Result<Named, String> {
    let expression = parse(text).map_err(|error| format!("{text}: {error}"))?;
    let mut named = Named::default();
    let result = named
        .walk(&expression, Range::None)
        .map_err(|error| format!("{text}: {error}"))?;
    named.labels = result.unwrap_or_default();
    Ok(named)
}

/// What is around a selector.
#[derive(Clone, Copy, PartialEq)]
enum Range {
    None,
    /// `rate` and the like, which are for counters.
    Growth,
    /// A function of what a gauge was in a time.
    Gauge,
}

/// Labels of a vector; none: a number.
type Labels = Option<BTreeSet<String>>;

impl Named {
    fn walk(&mut self, expression: &Expr, range: Range) -> Result<Labels, String> {
        match expression {
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(None),
            Expr::Paren(inner) => self.walk(&inner.expr, range),
            Expr::Unary(inner) => self.walk(&inner.expr, range),
            Expr::Subquery(inner) => self.walk(&inner.expr, Range::None),
            Expr::VectorSelector(selector) => self.selector(selector, range).map(Some),
            Expr::MatrixSelector(selector) => self.selector(&selector.vs, range).map(Some),
            Expr::Call(call) => self.call(call),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Extension(_) => Err("an extension of PromQL".to_owned()),
        }
    }

    fn selector(
        &mut self,
        selector: &VectorSelector,
        range: Range,
    ) -> Result<BTreeSet<String>, String> {
        let name = selector
            .name
            .as_deref()
            .ok_or("a selector without a name")?;
        let matchers = &selector.matchers.matchers;
        if !selector.matchers.or_matchers.is_empty() {
            return Err(format!("{name}: alternatives of matchers"));
        }
        let scrape = SCRAPE.map(str::to_owned);
        if name == UP {
            let foreign = matchers.iter().find(|one| !SCRAPE.contains(&&*one.name));
            return match foreign {
                Some(matcher) => Err(format!("{UP} has no label {}", matcher.name)),
                None => Ok(scrape.into()),
            };
        }
        let (family, values, suffix) = find(name)?;
        let counter = family.kind == Kind::Counter || !suffix.is_empty();
        if counter != (range == Range::Growth) {
            return Err(format!(
                "{name}: rate and increase are for counters, and counters are for them"
            ));
        }
        self.families.insert(family.name);
        let own = family.labels.iter().map(|label| (*label).to_owned());
        let mut labels: BTreeSet<String> = own.chain(scrape).collect();
        if suffix == "_bucket" {
            labels.insert("le".to_owned());
        }
        for matcher in matchers {
            if !labels.contains(&matcher.name) {
                return Err(format!("{name} has no label {}", matcher.name));
            }
            if let Some(values) = values(family, &matcher.name) {
                self.matcher(matcher, &values)?;
            }
        }
        Ok(labels)
    }

    fn matcher(&mut self, matcher: &Matcher, values: &[&'static str]) -> Result<(), String> {
        // Each alternative for itself: one that fits nothing is a mistake beside others that do.
        let alternatives: Vec<Matcher> = match &matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => {
                vec![Matcher::new(MatchOp::Equal, &matcher.name, &matcher.value)]
            }
            MatchOp::Re(_) | MatchOp::NotRe(_) => {
                if matcher.value.contains('(') {
                    return Err(format!("{}: write it without groups", matcher.value));
                }
                let parts = matcher.value.split('|');
                let one = |part| {
                    let text = format!("x{{{}=~{part:?}}}", matcher.name);
                    match parse(&text)? {
                        Expr::VectorSelector(x) => Ok(x.matchers.matchers[0].clone()),
                        _ => Err(format!("{part}: no pattern")),
                    }
                };
                parts.map(one).collect::<Result<_, String>>()?
            }
        };
        for alternative in alternatives {
            if !values.iter().any(|value| alternative.is_match(value)) {
                return Err(format!(
                    "no {} is {}; there are {}",
                    matcher.name,
                    alternative.value,
                    values.join(", ")
                ));
            }
        }
        let left = values
            .iter()
            .copied()
            .filter(|value| matcher.is_match(value));
        self.selected.push((matcher.name.clone(), left.collect()));
        Ok(())
    }

    fn call(&mut self, call: &Call) -> Result<Labels, String> {
        let name = call.func.name;
        self.functions.insert(name);
        let range = match name {
            "rate" | "increase" => Range::Growth,
            "max_over_time" | "min_over_time" => Range::Gauge,
            "histogram_quantile" | "clamp_min" | "time" | "vector" => Range::None,
            other => return Err(format!("{other}: say here what it does with labels")),
        };
        let mut labels = None;
        for argument in &call.args.args {
            labels = self.walk(argument, range)?.or(labels);
        }
        match name {
            "histogram_quantile" => {
                let of_buckets = labels.as_mut().is_some_and(|labels| labels.remove("le"));
                if !of_buckets {
                    return Err(format!("{name} of no buckets"));
                }
            }
            "vector" => labels = Some(BTreeSet::new()),
            _ => {}
        }
        Ok(labels)
    }

    fn aggregate(&mut self, aggregate: &AggregateExpr) -> Result<Labels, String> {
        let inner = self.walk(&aggregate.expr, Range::None)?;
        let inner = inner.ok_or("an aggregation of a number")?;
        let known = |labels: &[String]| match labels.iter().find(|one| !inner.contains(*one)) {
            Some(label) => Err(format!("there is no label {label} to aggregate by")),
            None => Ok(()),
        };
        let left = match &aggregate.modifier {
            None => BTreeSet::new(),
            Some(LabelModifier::Include(by)) => {
                known(&by.labels)?;
                by.labels.iter().cloned().collect()
            }
            Some(LabelModifier::Exclude(without)) => {
                known(&without.labels)?;
                let mut left = inner.clone();
                left.retain(|label| !without.labels.contains(label));
                left
            }
        };
        Ok(Some(left))
    }

    fn binary(&mut self, binary: &BinaryExpr) -> Result<Labels, String> {
        let left = self.walk(&binary.lhs, Range::None)?;
        let right = self.walk(&binary.rhs, Range::None)?;
        let (Some(left), Some(right)) = (&left, &right) else {
            return Ok(left.or(right));
        };
        let operator = binary.op.to_string();
        let matching = binary.modifier.as_ref().and_then(|it| it.matching.as_ref());
        let same = match matching {
            Some(LabelModifier::Include(on)) => {
                let on: BTreeSet<String> = on.labels.iter().cloned().collect();
                on.is_subset(left) && on.is_subset(right)
            }
            Some(LabelModifier::Exclude(_)) => return Err("write `on`, not `ignoring`".to_owned()),
            // `or` takes what is there.
            None => left == right || operator == "or",
        };
        if !same {
            return Err(format!(
                "{operator}: one side has the labels {left:?}, the other {right:?}"
            ));
        }
        Ok(Some(left.clone()))
    }
}

/// The family of a series, its labels' values, and which part of a histogram it is.
fn find(series: &str) -> Result<(&'static Family, Values, &'static str), String> {
    for (_, families, values) in DAEMONS {
        for family in families {
            let histogram = matches!(family.kind, Kind::Histogram(_));
            let suffixes: &[&str] = match histogram {
                true => &["_bucket", "_sum", "_count"],
                false => &[""],
            };
            let suffix = series.strip_prefix(family.name).unwrap_or("-");
            if let Some(suffix) = suffixes.iter().find(|known| **known == suffix) {
                return Ok((family, values, suffix));
            }
        }
    }
    Err(format!("no daemon has a metric {series}"))
}

#[test]
fn mistakes_are_found() {
    for (query, mistake) in [
        ("sum(doorstep_server_session)", "no daemon has a metric"),
        (
            "doorstep_server_commit_duration_seconds",
            "no daemon has a metric",
        ),
        (
            "doorstep_server_sessions{operator=\"x\"}",
            "has no label operator",
        ),
        (
            "doorstep_server_sessions{state=\"stuck\"}",
            "no state is stuck",
        ),
        (
            "doorstep_server_sessions{state=~\"connecting|stuck\"}",
            "no state is stuck",
        ),
        (
            "sum by (gateway) (doorstep_server_sessions)",
            "no label gateway",
        ),
        ("rate(doorstep_server_sessions[5m])", "are for counters"),
        ("doorstep_server_requests_total > 5", "are for counters"),
        (
            "doorstep_gateway_lines / doorstep_gateway_map_entries",
            "one side has the labels",
        ),
        (
            "histogram_quantile(0.9, sum by (job) (rate(doorstep_server_commit_jobs_bucket[5m])))",
            "of no buckets",
        ),
        ("up{operator=\"x\"}", "up has no label operator"),
        ("sum(doorstep_gateway_lines", "unclosed left parenthesis"),
    ] {
        let error = check(query).expect_err(query);
        assert!(error.contains(mistake), "{error}");
    }
    let named = check(
        "sum by (job, reason) (rate(doorstep_gateway_packets_total{reason=~\"punt_full|policed_.+\"}[5m])) > 0",
    )
    .expect("a good query");
    assert_eq!(named.families, ["doorstep_gateway_packets_total"].into());
    assert_eq!(named.labels, ["job", "reason"].map(str::to_owned).into());
    let reasons = ["policed_downstream", "policed_upstream", "punt_full"];
    assert_eq!(named.selected, [("reason".to_owned(), reasons.into())]);
}
