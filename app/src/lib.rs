//! The pages that subscribers use: plain data in, markup out. Who serves them, and what is done, is
//! the business of the program that does: the terminal's daemon on its room ports.
//!
//! | module | what |
//! |---|---|
//! | `language`, `words` | which language, and all that is said in it |
//! | `shell` | the page around a page |
//! | `state`, `deed` | what a connection can be, and what can be done with it |
//! | `cards`, `forms`, `steps` | what pages consist of |
//! | `picture` | the text of a door's code from a picture of it |

#![forbid(unsafe_code)]

pub mod cards;
pub mod deed;
pub mod forms;
pub mod language;
pub mod picture;
pub mod shell;
pub mod state;
pub mod steps;
pub mod words;
