//! What `support-bundle` tells of each daemon, and above all what it does not.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use doorstep_tests::lab::daemon::Daemon;
use doorstep_tests::lab::netns::{Netns, run};
use doorstep_tests::lab::street::{Plan, Session, Street};
use doorstep_tests::suite::CaseResult;
use serde_json::{Value, json};

use crate::support::connect;

const PHONE: &str = "13900005678";
const ID_CARD: &str = "11010519491231002X";
const PASSWORD: &str = "planted-password-7x";
const TOKEN: &str = "tok_planted_6Qm0aZ";
const PASSPHRASE: &str = "planted passphrase 5";

/// What must not be told, by what it is.
type Planted = BTreeMap<String, Vec<u8>>;

/// Phone and ID-card numbers, keys and tokens in the database, the configurations and the logs.
fn plant(street: &Street, session: &Session) -> Result<Planted> {
    let mut planted = Planted::new();
    let mut add = |what: &str, secret: &str| planted.insert(what.to_owned(), secret.into());
    for (what, secret) in [
        ("a phone number", PHONE),
        ("an ID-card number", ID_CARD),
        ("a password", PASSWORD),
        ("a token", TOKEN),
        ("a passphrase", PASSPHRASE),
        ("the terminal's phone number", &street.homes[0].phone()),
        ("the sealed location id", &street.seal(0, 0)?),
        ("the location id", &street.location(0, 0)),
    ] {
        add(what, secret);
    }
    let v4 = session.ipv4_address.context("no address")?.to_string();
    add("the subscriber's address", &v4);
    let prefix = session.ipv6_prefix.clone().context("no prefix")?;
    add("the subscriber's prefix", &prefix);

    // In the database, with a secret that goes to a file.
    let dir = street.dir();
    let (rows, secrets) = (dir.join("rows.csv"), dir.join("secrets.csv"));
    fs::write(&rows, format!("phone,id-card\n{PHONE},{ID_CARD}\n"))?;
    let mut import = street.server().client(&["subscribers", "import"])?;
    run(import.arg(&rows).arg("--secrets").arg(&secrets))?;
    let secrets = fs::read_to_string(&secrets)?;
    let row = secrets.lines().nth(1).context("no secret")?;
    let (_, given) = row.rsplit_once(',').context("no secret")?;
    add("a subscriber's secret", given);

    // What the daemons keep: the server's keys, the gateway's, the terminal's credentials and keys.
    let mut files = vec![dir.join("gw1/op0/gw1.pem")];
    let keys = fs::read_dir(dir.join("server0/keys"))?;
    files.extend(keys.flatten().map(|entry| entry.path()));
    for file in files.iter().filter(|file| file.is_file()) {
        let content = fs::read(file)?;
        let what = file.display().to_string();
        match String::from_utf8(content) {
            Ok(text) => {
                let lines = text.lines().filter(|line| line.len() >= 32);
                for (number, line) in lines.filter(|line| !line.contains("-----")).enumerate() {
                    planted.insert(format!("{what} {number}"), line.into());
                }
            }
            Err(error) => {
                planted.insert(what, error.into_bytes());
            }
        }
    }
    let state: Value = serde_json::from_slice(&fs::read(dir.join("home0/state/state.json"))?)?;
    for (what, secret) in [
        (
            "the subscriber's id",
            state.pointer("/operators/default/subscriber_id"),
        ),
        (
            "the terminal's secret",
            state.pointer("/operators/default/secret"),
        ),
        ("the session's key", state.pointer("/sessions/0/key")),
    ] {
        let secret = secret.and_then(Value::as_str);
        let secret = secret.with_context(|| format!("no {what} in {state}"))?;
        planted.insert(what.to_owned(), secret.into());
    }
    ensure!(planted.len() > 16, "{:?}", planted.keys());
    Ok(planted)
}

/// Puts them where a hasty hand might: in keys that are told, in others, and in ones that do not exist.
fn into_configurations(street: &Street) -> Result<()> {
    let append = |file: &Path, before: &str, after: &str| -> Result<()> {
        let text = fs::read_to_string(file)?;
        Ok(fs::write(file, format!("{before}\n{text}\n{after}\n"))?)
    };
    let passphrase = street.dir().join("passphrase");
    fs::write(&passphrase, PASSPHRASE)?;
    append(
        &street.operators[0].config,
        &format!(
            "database = \"postgres://doorstep:{PASSWORD}@db.example.net/x\"\n\
             country_code = \"{PHONE}\"\ncontact = \"{PHONE}\""
        ),
        &format!(
            "[[plan]]\nname = \"{ID_CARD}\"\nupstream = \"{PHONE}\"\n\
             [legacy_seal]\npassphrase_file = \"{}\"\n\
             [register.verification]\nurl = \"https://x:{PASSWORD}@example.net/?token={TOKEN}\"",
            passphrase.display()
        ),
    )?;
    append(
        &street.gateways[0].config,
        &format!("token = \"{TOKEN}\"\nxdp_mode = \"{PHONE}\""),
        &format!("replicas = [\"https://x:{PASSWORD}@example.net:7443\", \"{TOKEN}\"]"),
    )?;
    append(
        &street.homes[0].config,
        &format!("note = \"{PHONE}\""),
        &format!("session = \"{PHONE}\"\n[home.rooms.\"{PHONE}\"]\nsession = \"{ID_CARD}\""),
    )
}

/// A log of lines as the daemons write them with `--log-format json`, of libraries' and of plain text, with
/// all that is planted in them.
fn log(street: &Street, daemon: &str, planted: &Planted) -> Result<PathBuf> {
    let file = street.dir().join(format!("{daemon}.log.json"));
    let target = daemon.replace('-', "_");
    let mut log = fs::File::create(&file)?;
    for (what, secret) in planted {
        let secret = String::from_utf8_lossy(secret);
        let event = json!({
            "timestamp": "2026-03-01T12:34:56.789Z", "level": "WARN", "target": target,
            "fields": {"message": "the stream has ended", "operator": PHONE, "error": secret,
                       "session": ID_CARD, "line": secret, "why": secret, "generation": 7},
            "span": {"name": "stream", "subscriber": secret}, "spans": [{"name": secret}],
        });
        writeln!(log, "{event}")?;
        let library = json!({
            "timestamp": "2026-03-01T12:34:56.789Z", "level": "INFO", "target": "h2::frame",
            "fields": {"message": format!("{what}: {secret}")},
        });
        writeln!(log, "{library}")?;
        writeln!(
            log,
            "2026-03-01T12:34:56Z  INFO {target}: said error={secret}"
        )?;
    }
    Ok(file)
}

/// Makes a daemon's bundle on its host and unpacks it: its files by name.
fn bundle(
    street: &Street,
    (daemon, name, host): (&Daemon, &str, &Netns),
    config: &Path,
    log: &Path,
    options: &[&str],
) -> Result<BTreeMap<String, Vec<u8>>> {
    let folder = street.dir().join(format!("{name}{}", options.len()));
    fs::create_dir(&folder)?;
    let archive = folder.join("bundle.tar.gz");
    let client = daemon.client(&["support-bundle", "-o", "json"])?;
    let mut command = host.command(client.get_program())?;
    command.args(client.get_args()).args(options);
    command.arg("--config").arg(config).arg("--log").arg(log);
    let written = run(command.arg("--out").arg(&archive))?;
    let written: Value = serde_json::from_str(&written)?;
    ensure!(
        written["lacking"] == json!([]) || name != "doorstep-gateway",
        "{written}"
    );
    run(Command::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .arg("-C")
        .arg(&folder))?;
    let files = fs::read_dir(folder.join(format!("{name}-support")))?;
    let files = files.flatten().map(|file| {
        let name = file.file_name().to_string_lossy().into_owned();
        Ok((name, fs::read(file.path())?))
    });
    files.collect()
}

/// None of what is planted, in any form that it may be written in.
fn tells_nothing(files: &BTreeMap<String, Vec<u8>>, planted: &Planted) -> Result<()> {
    for (what, secret) in planted {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let forms = [
            secret.clone(),
            hex.to_uppercase().into(),
            hex.into(),
            STANDARD_NO_PAD.encode(secret).into(),
            URL_SAFE_NO_PAD.encode(secret).into(),
        ];
        for (name, content) in files {
            for form in &forms {
                let found = content.windows(form.len()).any(|part| part == form);
                ensure!(
                    !found,
                    "{name} tells {what}: {}",
                    String::from_utf8_lossy(content)
                );
            }
        }
    }
    Ok(())
}

fn value(files: &BTreeMap<String, Vec<u8>>, file: &str, pointer: &str) -> Result<Value> {
    let content = files.get(file).with_context(|| format!("no {file}"))?;
    let value: Value = serde_json::from_slice(content)?;
    let found = value.pointer(pointer).cloned();
    found.with_context(|| format!("no {pointer} in {value:#}"))
}

pub fn tells_what_helps_and_nothing_private() -> CaseResult {
    let street = Street::new(Plan {
        metrics: true,
        ..Plan::default()
    })?;
    let session = connect(&street, 0)?;
    let planted = plant(&street, &session)?;
    into_configurations(&street)?;
    let (server, gateway, home) = (&street.operators[0], &street.gateways[0], &street.homes[0]);
    let daemons = [
        (
            &server.server,
            "doorstep-server",
            &street.srv,
            &server.config,
        ),
        (
            &gateway.daemon,
            "doorstep-gateway",
            &gateway.netns,
            &gateway.config,
        ),
        (
            &home.terminal,
            "doorstep-terminal",
            &home.netns,
            &home.config,
        ),
    ];
    let mut bundles = BTreeMap::new();
    for (daemon, name, host, config) in daemons {
        let log = log(&street, name, &planted)?;
        let files = bundle(&street, (daemon, name, host), config, &log, &[])?;
        tells_nothing(&files, &planted).with_context(|| name.to_owned())?;
        let said = value(&files, "log.json", "/events/0/message")?;
        ensure!(said == "the stream has ended", "{said}");
        let unreadable = value(&files, "log.json", "/without_structure")?;
        ensure!(unreadable == planted.len(), "{unreadable}");
        ensure!(value(&files, "host.json", "/kernel")?.is_string());
        let version = value(&files, "manifest.json", "/version")?;
        ensure!(version == env!("CARGO_PKG_VERSION"), "{version}");
        bundles.insert(name, files);
    }
    for (daemon, file, pointer, expected) in [
        ("server", "status.json", "/operator", json!("north-net")),
        (
            "server",
            "status.json",
            "/sessions_by_state/established",
            json!(1),
        ),
        ("server", "status.json", "/subscribers", json!(2)),
        ("server", "gateways.json", "/0/gateway_id", json!("gw1")),
        ("server", "gateways.json", "/0/connected", json!(true)),
        (
            "server",
            "config.json",
            "/gateway/0/delegated_prefix_len",
            json!(56),
        ),
        (
            "server",
            "config.json",
            "/register/verification/url",
            json!(true),
        ),
        (
            "server",
            "config.json",
            "/country_code",
            json!("(withheld)"),
        ),
        ("server", "database.json", "/kind", json!("PostgreSQL")),
        ("gateway", "status.json", "/maps/UPSTREAM_V4/used", json!(1)),
        (
            "gateway",
            "status.json",
            "/servers/0/connected",
            json!(true),
        ),
        (
            "gateway",
            "status.json",
            "/operators/0/uplink",
            json!("uplink0"),
        ),
        ("gateway", "status.json", "/ports/0/state", json!("up")),
        (
            "gateway",
            "config.json",
            "/operator/0/name",
            json!("north-net"),
        ),
        ("gateway", "config.json", "/xdp_mode", json!("(withheld)")),
        (
            "gateway",
            "metrics.json",
            "/0/metric",
            json!("doorstep_gateway_build_info"),
        ),
        ("gateway", "pins.json", "/v3/folder", json!(true)),
        (
            "terminal",
            "status.json",
            "/sessions/0/state",
            json!("established"),
        ),
        (
            "terminal",
            "status.json",
            "/operators/0/registered",
            json!(true),
        ),
        ("terminal", "status.json", "/ports/0/listening", json!(true)),
        ("terminal", "doctor.json", "/0/what", json!("port wan0")),
        ("terminal", "config.json", "/wan/ports", json!(["wan0"])),
    ] {
        let files = &bundles[format!("doorstep-{daemon}").as_str()];
        let told = value(files, file, pointer)?;
        ensure!(
            told == expected,
            "{daemon}'s {file}, {pointer}: {told}, not {expected}"
        );
    }

    // Who asks for it gets the places of homes, and still nothing else.
    let log = log(&street, "with_locations", &planted)?;
    let daemon = (&server.server, "doorstep-server", &street.srv);
    let files = bundle(&street, daemon, &server.config, &log, &["--locations"])?;
    let locations = value(&files, "config.json", "/gateway/0/locations/0")?;
    let prefix = locations.as_str().context("no location")?;
    ensure!(street.location(0, 0).starts_with(prefix), "{locations}");
    tells_nothing(&files, &planted)?;
    Ok(())
}
