//! From CSV to lines, with the place of all that is wrong.

use std::collections::{HashMap, HashSet};
use std::fmt;

use csv::{ReaderBuilder, StringRecord, Trim};
use doorstep_establish::{TPID_8021AD, TPID_8021Q, Tag, Tags};
use doorstep_gateway_common::LineKey;
use doorstep_location::LocationId;

use super::Inventory;
use crate::config::{Position, Problem};
use crate::session::Line;

const NEEDED: [&str; 4] = ["location", "port", "s_vlan", "c_vlan"];
const OPTIONAL: [&str; 3] = ["s_tpid", "c_tpid", "blocked"];
const MAX_VID: u16 = 4094;

pub(super) fn inventory(
    text: &str,
    port: impl Fn(&str) -> Option<u32>,
) -> Result<Inventory, Vec<Problem>> {
    // Editors on other systems begin the file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = ReaderBuilder::new()
        .flexible(true)
        .trim(Trim::All)
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    let mut table = Table::new(text, port);
    match reader.headers() {
        Ok(header) => {
            let header = header.clone();
            if !table.header(&header) {
                return Err(table.problems);
            }
        }
        Err(error) => {
            table.csv_error(&error);
            return Err(table.problems);
        }
    }
    for record in reader.records() {
        match record {
            Ok(record) => table.record(&record),
            Err(error) => table.csv_error(&error),
        }
    }
    if table.problems.is_empty() {
        Ok(Inventory {
            lines: table.lines,
            blocked: table.blocked,
        })
    } else {
        Err(table.problems)
    }
}

struct Table<'a, P> {
    text: Vec<&'a str>,
    port: P,
    columns: HashMap<&'static str, usize>,
    lines: HashMap<LocationId, Line>,
    blocked: HashSet<LocationId>,
    /// Where each location and each line was first named.
    locations: HashMap<LocationId, usize>,
    keys: HashMap<LineKey, usize>,
    problems: Vec<Problem>,
}

impl<'a, P: Fn(&str) -> Option<u32>> Table<'a, P> {
    fn new(text: &'a str, port: P) -> Self {
        Self {
            text: text.lines().collect(),
            port,
            columns: HashMap::new(),
            lines: HashMap::new(),
            blocked: HashSet::new(),
            locations: HashMap::new(),
            keys: HashMap::new(),
            problems: Vec::new(),
        }
    }

    fn header(&mut self, header: &StringRecord) -> bool {
        let line = self.line_of(header);
        for (i, name) in header.iter().enumerate() {
            let known = NEEDED.iter().chain(&OPTIONAL).find(|known| **known == name);
            match known {
                Some(known) => {
                    if self.columns.insert(known, i).is_some() {
                        self.add(line, i, format_args!("column '{known}' is named twice"));
                    }
                }
                None => self.add(
                    line,
                    i,
                    format_args!(
                        "unknown column '{name}'; the columns are {}, and perhaps {}",
                        NEEDED.join(", "),
                        OPTIONAL.join(", ")
                    ),
                ),
            }
        }
        for name in NEEDED {
            if !self.columns.contains_key(name) {
                self.add(
                    line,
                    0,
                    format_args!("the header lacks the column '{name}'"),
                );
            }
        }
        self.problems.is_empty()
    }

    fn record(&mut self, record: &StringRecord) {
        let number = self.line_of(record);
        let before = self.problems.len();
        if record.len() > self.columns.len() {
            self.add(
                number,
                self.columns.len(),
                format_args!(
                    "{} fields, but the header has {}",
                    record.len(),
                    self.columns.len()
                ),
            );
        }
        let location = self.location(number, record);
        let port = self.port(number, record);
        let s_tag = self.tag(number, record, "s_vlan", "s_tpid", TPID_8021AD);
        let c_tag = self.tag(number, record, "c_vlan", "c_tpid", TPID_8021Q);
        if let (Some(_), None) = (s_tag, c_tag)
            && self.field(record, "c_vlan").is_empty()
        {
            self.add(
                number,
                self.columns["s_vlan"],
                "an s_vlan without a c_vlan: a single tag goes into c_vlan",
            );
        }
        let blocked = self.blocked(number, record);
        let (Some(location), Some((port, ifindex))) = (location, port) else {
            return;
        };
        if self.problems.len() > before {
            return;
        }
        let stack: Vec<Tag> = s_tag.into_iter().chain(c_tag).collect();
        let Ok(tags) = Tags::new(&stack) else {
            self.add(number, self.columns["c_vlan"], "these tags make no stack");
            return;
        };
        let key = LineKey {
            ifindex,
            s_vid: s_tag.map_or(0, |tag| tag.vid),
            c_vid: c_tag.map_or(0, |tag| tag.vid),
        };
        if blocked {
            self.blocked.insert(location.clone());
        }
        self.insert(number, location, Line { key, port, tags });
    }

    fn insert(&mut self, number: usize, location: LocationId, line: Line) {
        if let Some(first) = self.locations.insert(location.clone(), number) {
            let what = format!("location {location} has a line already, in line {first}");
            self.add(number, self.columns["location"], what);
        }
        if let Some(first) = self.keys.insert(line.key, number) {
            let what = format!("{line} is another location's already, in line {first}");
            self.add(number, self.columns["port"], what);
        }
        self.lines.insert(location, line);
    }

    fn location(&mut self, number: usize, record: &StringRecord) -> Option<LocationId> {
        match self.field(record, "location").parse::<LocationId>() {
            Ok(location) => Some(location),
            Err(error) => {
                self.add(number, self.columns["location"], error);
                None
            }
        }
    }

    fn port(&mut self, number: usize, record: &StringRecord) -> Option<(String, u32)> {
        let name = self.field(record, "port");
        let ifindex = (self.port)(name);
        if ifindex.is_none() {
            let what = if name.is_empty() {
                "the port is missing".to_owned()
            } else {
                format!("port '{name}' is not an [[access_port]] of the configuration")
            };
            self.add(number, self.columns["port"], what);
        }
        ifindex.map(|ifindex| (name.to_owned(), ifindex))
    }

    fn blocked(&mut self, number: usize, record: &StringRecord) -> bool {
        match self.field(record, "blocked") {
            "yes" => true,
            "no" | "" => false,
            other => {
                let what = format!("blocked '{other}' is neither yes nor no");
                self.add(number, self.columns["blocked"], what);
                false
            }
        }
    }

    /// The tag of two columns; none where its VLAN is empty, or wrong and told so.
    fn tag(
        &mut self,
        number: usize,
        record: &StringRecord,
        vlan: &'static str,
        tpid: &'static str,
        default: u16,
    ) -> Option<Tag> {
        let vid_text = self.field(record, vlan);
        let tpid_text = self.field(record, tpid);
        if vid_text.is_empty() {
            if !tpid_text.is_empty() {
                let what = format!("{tpid} without a {vlan}");
                self.add(number, self.columns[tpid], what);
            }
            return None;
        }
        let vid = vid_text
            .parse()
            .ok()
            .filter(|vid| (1..=MAX_VID).contains(vid));
        if vid.is_none() {
            let what = format!("{vlan} '{vid_text}' is not a VLAN id, 1..={MAX_VID}");
            self.add(number, self.columns[vlan], what);
        }
        let tpid = match tpid_text.to_ascii_lowercase().as_str() {
            "" => Some(default),
            "0x88a8" => Some(TPID_8021AD),
            "0x8100" => Some(TPID_8021Q),
            _ => {
                let what = format!("{tpid} '{tpid_text}' is neither 0x88a8 nor 0x8100");
                self.add(number, self.columns[tpid], what);
                None
            }
        };
        Some(Tag {
            tpid: tpid?,
            vid: vid?,
        })
    }

    fn field<'r>(&self, record: &'r StringRecord, name: &str) -> &'r str {
        let index = self.columns.get(name);
        index.and_then(|&i| record.get(i)).unwrap_or_default()
    }

    /// The line that a record is in. The reader counts skipped lines before it as its own.
    fn line_of(&self, record: &StringRecord) -> usize {
        let from = record.position().map_or(1, |at| number(at.line()));
        let skipped = self.text[(from - 1).min(self.text.len())..]
            .iter()
            .take_while(|line| line.is_empty() || line.starts_with('#'));
        // A file without records ends in what was skipped.
        (from + skipped.count()).min(self.text.len().max(1))
    }

    fn csv_error(&mut self, error: &csv::Error) {
        let line = error.position().map_or(1, |at| number(at.line()));
        self.add(line, 0, error);
    }

    fn add(&mut self, line: usize, field: usize, what: impl fmt::Display) {
        let text = self.text.get(line - 1).copied().unwrap_or_default();
        self.problems.push(Problem {
            at: Position {
                line,
                column: column(text, field),
            },
            what: what.to_string(),
        });
    }
}

fn number(line: u64) -> usize {
    usize::try_from(line).unwrap_or(usize::MAX).max(1)
}

/// Where a field of a line of CSV begins, in characters from 1; the line's end if it lacks it.
fn column(line: &str, field: usize) -> usize {
    let chars: Vec<char> = line.chars().collect();
    let (mut begin, mut commas, mut quoted) = (0, 0, false);
    for (i, char) in chars.iter().enumerate() {
        if commas == field {
            break;
        }
        match char {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                commas += 1;
                begin = i + 1;
            }
            _ => {}
        }
    }
    if commas < field {
        return chars.len() + 1;
    }
    let blanks = chars[begin..]
        .iter()
        .take_while(|char| char.is_whitespace());
    begin + blanks.count() + 1
}
