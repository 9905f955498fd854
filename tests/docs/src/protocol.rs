//! The reference of the protocol, made from what the `.proto` files say of themselves.

use std::collections::HashMap;

use doorstep_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, ServiceDescriptorProto,
};

const INTRODUCTION: &str = "\
# Protocol

All that terminals, servers and gateways say to each other, and what the command lines ask their daemons. This page is made from
[`proto/doorstep/v1`](../../proto/doorstep/v1) (`DOORSTEP_WRITE_REFERENCE=1 cargo test -p doorstep-test-docs`), where the same is said in protobuf's
own words; a server tells it to tools that ask, by gRPC reflection. Numbers of fields stay what they are, and unknown fields are ignored:
that is how versions get on with each other ([upgrade](../guide/upgrade.md)).
";

/// The files, in the order in which one wants to know of them.
const FILES: [&str; 8] = [
    "access",
    "control",
    "establish",
    "enrollment",
    "admin_server",
    "admin_accounts",
    "admin_gateway",
    "admin_terminal",
];

// Numbers of fields in descriptor.proto: a path of them leads to whatever has a comment.
const PACKAGE: i32 = 2;
const MESSAGES: i32 = 4;
const ENUMS: i32 = 5;
const SERVICES: i32 = 6;
const OF_A_MESSAGE: i32 = 2;
const OF_AN_ENUM: i32 = 2;
const OF_A_SERVICE: i32 = 2;

/// The page, as Markdown.
///
/// # Panics
/// If the descriptors are none, or lack a file.
#[must_use]
pub fn protocol() -> String {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
    let mut page = INTRODUCTION.to_owned();
    for name in FILES {
        let path = format!("doorstep/v1/{name}.proto");
        let file = set.file.iter().find(|file| file.name() == path);
        Page::of(file.expect(&path)).write(&mut page);
    }
    let ours = set
        .file
        .iter()
        .filter(|file| file.package() == "doorstep.v1");
    assert_eq!(ours.count(), FILES.len(), "a file is not part of the page");
    page
}

struct Page<'a> {
    file: &'a FileDescriptorProto,
    /// By the path of what they are about.
    comments: HashMap<&'a [i32], String>,
}

impl<'a> Page<'a> {
    fn of(file: &'a FileDescriptorProto) -> Self {
        let all = file.source_code_info.iter().flat_map(|info| &info.location);
        let comments = all.map(|location| {
            let told = [location.leading_comments(), location.trailing_comments()];
            let words: Vec<&str> = told
                .iter()
                .flat_map(|text| text.split_whitespace())
                .collect();
            (&location.path[..], words.join(" "))
        });
        let comments = comments.filter(|(_, text)| !text.is_empty()).collect();
        Self { file, comments }
    }

    fn comment(&self, path: &[i32]) -> &str {
        self.comments.get(path).map_or("", String::as_str)
    }

    fn write(&self, page: &mut String) {
        let title = self.comment(&[PACKAGE]);
        let (title, rest) = title.split_once(". ").unwrap_or((title, ""));
        let name = self.file.name();
        *page += &format!("\n## {}\n\n`{name}`", title.trim_end_matches('.'));
        *page += &if rest.is_empty() {
            ".\n".to_owned()
        } else {
            format!(". {rest}\n")
        };
        for (at, service) in (0..).zip(&self.file.service) {
            self.service(page, service, at);
        }
        for (at, message) in (0..).zip(&self.file.message_type) {
            self.message(page, message, at);
        }
        for (at, one) in (0..).zip(&self.file.enum_type) {
            self.enumeration(page, one, at);
        }
    }

    fn heading(&self, page: &mut String, name: &str, path: &[i32]) {
        *page += &format!("\n### {name}\n");
        let comment = self.comment(path);
        if !comment.is_empty() {
            *page += &format!("\n{comment}\n");
        }
    }

    fn service(&self, page: &mut String, service: &ServiceDescriptorProto, at: i32) {
        self.heading(page, service.name(), &[SERVICES, at]);
        let rows = (0..).zip(&service.method).map(|(number, call)| {
            let stream = |is: bool| if is { "stream of " } else { "" };
            [
                format!("`{}`", call.name()),
                stream(call.client_streaming()).to_owned() + &link(call.input_type()),
                stream(call.server_streaming()).to_owned() + &link(call.output_type()),
                self.comment(&[SERVICES, at, OF_A_SERVICE, number])
                    .to_owned(),
            ]
        });
        table(page, ["call", "asked by", "answered by", ""], rows);
    }

    fn message(&self, page: &mut String, message: &DescriptorProto, at: i32) {
        assert!(
            message.nested_type.iter().all(is_map),
            "a nested message is not part of the page"
        );
        assert!(
            message.enum_type.is_empty(),
            "a nested enumeration is not part of the page"
        );
        self.heading(page, message.name(), &[MESSAGES, at]);
        let rows = (0..).zip(&message.field).map(|(number, field)| {
            let comment = self.comment(&[MESSAGES, at, OF_A_MESSAGE, number]);
            let one_of = field.oneof_index.filter(|_| !field.proto3_optional());
            let one_of = one_of.map(|index| message.oneof_decl[index as usize].name());
            [
                field.number().to_string(),
                format!("`{}`", field.name()),
                kind(message, field),
                match one_of {
                    Some(name) => format!("*one of `{name}`* {comment}").trim_end().to_owned(),
                    None => comment.to_owned(),
                },
            ]
        });
        table(page, ["", "field", "type", ""], rows);
    }

    fn enumeration(&self, page: &mut String, one: &EnumDescriptorProto, at: i32) {
        self.heading(page, one.name(), &[ENUMS, at]);
        let rows = (0..).zip(&one.value).map(|(number, value)| {
            [
                value.number().to_string(),
                format!("`{}`", value.name()),
                self.comment(&[ENUMS, at, OF_AN_ENUM, number]).to_owned(),
            ]
        });
        table(page, ["", "value", ""], rows);
    }
}

/// `.doorstep.v1.Offer` as a link to its heading.
fn link(path: &str) -> String {
    let name = path.trim_start_matches(".doorstep.v1.");
    format!("[{name}](#{})", name.to_lowercase())
}

fn is_map(nested: &DescriptorProto) -> bool {
    nested
        .options
        .as_ref()
        .is_some_and(|options| options.map_entry())
}

fn kind(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let own = match field.r#type() {
        Type::Message | Type::Enum => {
            let map = message
                .nested_type
                .iter()
                .find(|nested| field.type_name().ends_with(&format!(".{}", nested.name())));
            if let Some(map) = map {
                let [key, value] = &map.field[..] else {
                    panic!("a map of {:?}", map.field)
                };
                return format!("map of {} to {}", kind(map, key), kind(map, value));
            }
            link(field.type_name())
        }
        scalar => scalar
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_lowercase(),
    };
    match field.label() {
        Label::Repeated => format!("list of {own}"),
        _ if field.proto3_optional() => format!("{own}, optional"),
        _ => own,
    }
}

fn table<const N: usize>(
    page: &mut String,
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    *page += &format!("\n| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    for row in rows {
        let cells = row.map(|cell| cell.replace('|', "\\|"));
        *page += &format!("| {} |\n", cells.join(" | "));
    }
}
