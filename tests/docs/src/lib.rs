//! Holds the documents against what they speak of: links against files and headings, commands against
//! the command lines that the binaries have. Makes the reference of the protocol. For tests: they show a list of what is wrong, and where.

mod commands;
mod documents;
mod links;
mod protocol;

pub use commands::wrong_commands;
pub use documents::Document;
pub use links::broken_links;
pub use protocol::protocol;
