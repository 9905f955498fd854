//! The command line.

mod accounts;
mod audit;
mod bulk;
mod bulk_csv;
mod bulk_report;
mod client;
mod database;
mod keys;
mod keys_views;
mod lists;
mod pki;
mod plans;
mod run;
#[cfg(test)]
mod schemas;
mod support;
mod tables;
mod top;
mod views;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args, CommandFactory as _, Parser, Subcommand};
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::exit;
use doorstep_daemon::log::LogFormat;
use doorstep_daemon::manual::Manual;
use doorstep_daemon::output::Output;
use doorstep_daemon::rate;
use doorstep_server::config::DEFAULT_ADMIN_SOCKET;
use uuid::Uuid;

/// The operator's Doorstep server: subscribers, sessions, and the gateways that carry them
#[derive(Debug, Parser)]
#[command(name = "doorstep-server", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How results are printed
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// How log lines look
        #[arg(long, value_enum, default_value_t)]
        log_format: LogFormat,
    },
    /// How the server is
    Status {
        #[command(flatten)]
        socket: Socket,
    },
    /// Who is registered
    Subscribers {
        #[command(flatten)]
        socket: Socket,
        #[command(subcommand)]
        action: Option<SubscriberAction>,
    },
    /// Which connections there are
    Sessions {
        #[command(flatten)]
        socket: Socket,
        #[command(subcommand)]
        action: Option<SessionAction>,
    },
    /// How far a connection holds, from the registration to the traffic: the first link that does not,
    /// its cause, and what to type next. Exit code 3 if a link is broken
    Why(why::WhyArgs),
    /// What subscribers may be put on
    Plans {
        #[command(flatten)]
        socket: Socket,
        #[command(subcommand)]
        action: Option<plans::Action>,
    },
    /// The operator's people, who sign in to the console
    Accounts {
        #[command(flatten)]
        socket: Socket,
        #[command(subcommand)]
        action: Option<accounts::Action>,
    },
    /// Which gateways are configured, and which are connected
    Gateways {
        #[command(flatten)]
        socket: Socket,
    },
    /// What goes on, drawn anew every few seconds: sessions by state, moves that wait for a receipt,
    /// gateways, load that was not taken; `q` ends it
    Top(top::TopArgs),
    /// Everything that somebody who helps needs to know of this server, in one file that may be sent away:
    /// without numbers of persons, keys, or whatever else is not known to be harmless
    SupportBundle(support::SupportArgs),
    /// The audit log: who did what, and whether it still says so
    Audit {
        #[command(subcommand)]
        action: AuditAction,
    },
    /// The database: its schema, and all its rows in one file
    Database {
        #[command(subcommand)]
        action: database::Action,
    },
    /// The operator's authority, and its gateways' certificates
    Pki {
        #[command(subcommand)]
        action: pki::Action,
    },
    /// The server's keys for location ids and identities
    Keys {
        #[command(subcommand)]
        action: KeysAction,
    },
    /// Write man pages and completions for shells
    #[command(hide = true)]
    Manual(Manual),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/doorstep/server.toml")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Socket {
    /// The running server's administration socket
    #[arg(
        long,
        value_name = "PATH",
        global = true,
        env = "DOORSTEP_SERVER_SOCKET",
        default_value = DEFAULT_ADMIN_SOCKET
    )]
    socket: PathBuf,
}

#[derive(Debug, Subcommand)]
enum SubscriberAction {
    /// Them all, in pages (the default)
    List(lists::SubscriberList),
    /// One of them, with its sessions
    Show { id: String },
    /// Make the subscribers of a file known; those that are known already are skipped (audited)
    Import(bulk::ImportArgs),
    /// Give a subscriber a new secret; the old one is void at once
    ResetSecret {
        id: String,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Put a subscriber and all its sessions on a plan of the configuration (audited)
    #[command(group(ArgGroup::new("which").required(true).args(["plan", "default"])))]
    Plan {
        id: String,
        /// Name of the plan
        plan: Option<String>,
        /// The default plan, whichever that is
        #[arg(long)]
        default: bool,
        #[command(flatten)]
        dry_run: DryRun,
    },
}

#[derive(Debug, Subcommand)]
enum SessionAction {
    /// All that are not released, or some of them, in pages (the default)
    List(lists::SessionList),
    /// One of them, with its history and receipts
    Show { id: String },
    /// Go on without the receipt that a session waits for (audited).
    /// Only when you know that the gateway forwards nothing more
    Force {
        id: String,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Give a session another service while it goes on (audited). What is left out stays as it is
    Service(ServiceArgs),
    /// Open one session, or those of a file, and have their gateways instructed; those that are there
    /// already are skipped (audited)
    Connect(bulk::ConnectArgs),
    /// Move a session to another location that comes up by DHCP: there is no terminal that could ask
    /// for it (audited)
    Move {
        id: String,
        /// Not sealed
        location: String,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// End a session (audited)
    Disconnect {
        id: String,
        #[command(flatten)]
        dry_run: DryRun,
    },
}

#[derive(Debug, Args)]
#[command(group(
    ArgGroup::new("what")
        .required(true)
        .multiple(true)
        .args(["plan", "up", "down", "shape", "police", "priority"])
))]
struct ServiceArgs {
    id: String,
    /// Everything as a plan of the configuration says, also when it changes
    #[arg(long, value_name = "NAME", conflicts_with_all = ["up", "down", "shape", "police", "priority"])]
    plan: Option<String>,
    /// Rate from the subscriber: bit/s, or with k, M or G; `unlimited`
    #[arg(long, value_name = "RATE", value_parser = rate::parse)]
    up: Option<u64>,
    /// Rate to the subscriber
    #[arg(long, value_name = "RATE", value_parser = rate::parse)]
    down: Option<u64>,
    /// Delay what is too fast toward the subscriber
    #[arg(long, conflicts_with = "police")]
    shape: bool,
    /// Drop what is too fast toward the subscriber
    #[arg(long)]
    police: bool,
    /// Priority (PCP) of the session's frames
    #[arg(long, value_name = "0..7", value_parser = clap::value_parser!(u32).range(0..=7))]
    priority: Option<u32>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Subcommand)]
enum IdentityAction {
    /// Which there are, which one seals, and how many rows of the database need the others; no
    /// secrets
    List {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Make a new one, which opens but does not seal yet. Copy its file to every replica before it
    /// is used; running servers take it up within seconds, and `status` shows it
    Add {
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Seal with a key that was added; older ones still open. Do so on every replica. The running
    /// servers then renew all rows that need an older key
    Use {
        /// Number of the key
        #[arg(value_name = "NUMBER")]
        key: u32,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Have an old key not be read any more (audited). Refused while rows of the database need it.
    /// Its file is kept, for backups from before; do so on every replica
    Retire {
        /// Number of the key
        #[arg(value_name = "NUMBER")]
        key: u32,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Debug, Subcommand)]
enum AuditAction {
    /// Its entries
    List {
        #[command(flatten)]
        source: AuditSource,
        /// Only those of this action, such as `force-session`
        #[arg(long, value_name = "NAME")]
        action: Option<String>,
        /// Only those of this subscriber or session
        #[arg(long, value_name = "ID")]
        of: Option<Uuid>,
    },
    /// Find the first entry that is not as it was written. Needs the server's audit key
    Verify {
        #[command(flatten)]
        config: ConfigFile,
        /// A log that was exported, instead of the database's; `-` is standard input
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// What `audit head` printed at an earlier time, or a file with it: shows that nothing up to
        /// there was cut off or written anew since
        #[arg(long, value_name = "HEAD|FILE")]
        head: Option<String>,
    },
    /// What proves the log up to now; keep it where nobody can reach both it and the database
    Head {
        #[command(flatten)]
        source: AuditSource,
    },
    /// The whole log, a line of JSON for each entry, and the head in the last line
    Export {
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct AuditSource {
    /// The server's configuration: the log of its database, whether or not it runs
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A log that was exported; `-` is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum KeysAction {
    /// The same as `pki init`
    #[command(hide = true)]
    Init {
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// The same as `pki issue`
    #[command(hide = true)]
    Gateway {
        name: String,
        /// Folder for the three files
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// The public sealing key, certificates and fingerprints; no secrets
    Show {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Add an opening key for new stickers; those sealed to older keys stay good.
    /// A running server must be restarted
    RotateSeal {
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// The identity keys, which phone and ID-card numbers are sealed with
    Identity {
        #[command(subcommand)]
        action: IdentityAction,
    },
    /// Seal a location id
    Seal {
        location: String,
        /// In the legacy form, where the configuration allows it
        #[arg(long)]
        legacy: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
}

pub fn main(cli: Cli) -> ExitCode {
    let output = cli.output;
    let result = match cli.command {
        Command::Why(given) => return exit::code(why::why(&given, output)),
        Command::Run { config, log_format } => run::run(&config.config, log_format),
        Command::Manual(manual) => manual.write(&Cli::command()),
        Command::Audit { action } => audit::audit(action, output),
        Command::Database { action } => database::database(action, output),
        Command::Pki { action } => pki::pki(action, output),
        Command::Keys { action } => keys::keys(action, output),
        Command::Status { socket } => client::block_on(client::status(&socket.socket, output)),
        Command::Plans { socket, action } => {
            client::block_on(plans::plans(&socket.socket, action, output))
        }
        Command::Accounts { socket, action } => {
            client::block_on(accounts::accounts(&socket.socket, action, output))
        }
        Command::Gateways { socket } => client::block_on(client::gateways(&socket.socket, output)),
        Command::Top(args) => client::block_on(top::run(args, output)),
        Command::SupportBundle(args) => client::block_on(support::bundle(args, output)),
        Command::Subscribers { socket, action } => {
            client::block_on(client::subscribers(&socket.socket, action, output))
        }
        Command::Sessions { socket, action } => {
            client::block_on(client::sessions(&socket.socket, action, output))
        }
    };
    exit::code(result.map(|()| ExitCode::SUCCESS))
}

#[cfg(test)]
mod tests {
    use doorstep_daemon::{dry_run, manual};
    use doorstep_test_docs::{Document, wrong_commands};

    use super::*;

    #[test]
    fn the_documents_have_no_other_commands() {
        let wrong = wrong_commands(&Cli::command(), &Document::all());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn what_changes_something_has_a_dry_run() {
        const READS: &str = "it reads";
        const FILE: &str = "it reads, and writes nothing but the new file that it is told of";
        let without = [
            ("run", "it is the daemon"),
            ("manual", FILE),
            ("support-bundle", FILE),
            ("database export", FILE),
            ("database backup", FILE),
        ];
        let reads = [
            "status",
            "subscribers list",
            "subscribers show",
            "sessions list",
            "sessions show",
            "why",
            "plans list",
            "accounts list",
            "gateways",
            "top",
            "audit list",
            "audit verify",
            "audit head",
            "audit export",
            "pki tokens",
            "pki show",
            "keys show",
            "keys seal",
            "keys identity list",
        ];
        let all = without.into_iter().chain(reads.map(|name| (name, READS)));
        let all: Vec<_> = all.collect();
        assert_eq!(dry_run::unaccounted(&Cli::command(), &all), [""; 0]);
    }

    #[test]
    fn every_command_has_a_page_and_completions() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().to_owned();
        Manual { out: out.clone() }
            .write(&Cli::command())
            .expect("written");
        assert_eq!(manual::lacking(&Cli::command(), &out), [""; 0]);
        assert!(out.join("man8/doorstep-server-sessions-force.8").exists());
    }
}
