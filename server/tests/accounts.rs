//! `accounts`: the commands, their passwords by standard input, and what is written down of them.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use doorstep_daemon::dry_run::Run;
use doorstep_server::account::Name;
use serde_json::{Value, json};

use crate::common::Server;

fn run(server: &Server, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_doorstep-server"))
        .arg("accounts")
        .args(arguments)
        .env("DOORSTEP_SERVER_SOCKET", &server.config.admin_socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn done(server: &Server, arguments: &[&str], input: &str) -> Value {
    let output = run(server, &[arguments, &["-o", "json"]].concat(), input);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    let value = serde_json::from_slice(&output.stdout).unwrap();
    let words = [&["accounts"], arguments].concat();
    doorstep_test_schemas::assert_valid("doorstep-server", &words, &value);
    value
}

fn refused(server: &Server, arguments: &[&str], input: &str) -> String {
    let output = run(server, arguments, input);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

async fn signs_in(server: &Server, name: &str, password: &str) -> bool {
    let engine = &server.running.as_ref().unwrap().engine;
    let name: Option<Name> = name.parse().ok();
    let account = engine.sign_in(name, password.to_owned().into()).await;
    account.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_made_and_changed_on_the_host() {
    let server = Server::start().await;
    assert_eq!(done(&server, &[], ""), json!([]));
    let add = ["add", "li", "--role", "viewer"];
    for (input, problem) in [
        ("", "no password"),
        ("\n", "no password"),
        ("short\n", "at least 12 characters"),
    ] {
        let error = refused(&server, &add, input);
        assert!(error.contains(problem), "{error}");
    }
    let added = done(&server, &add, "correct horse battery\r\n");
    assert_eq!(added, json!({ "account": "li" }));
    let error = refused(&server, &add, "correct horse battery\n");
    assert!(error.contains("an account li already"), "{error}");
    let error = refused(
        &server,
        &["add", "Li", "--role", "viewer"],
        "correct horse battery\n",
    );
    assert!(error.contains("1 to 32 of a-z"), "{error}");
    let error = refused(&server, &["add", "wang", "--role", "owner"], "");
    assert!(error.contains("viewer, agent, admin"), "{error}");

    assert!(signs_in(&server, "li", "correct horse battery").await);
    done(&server, &["role", "li", "agent"], "");
    done(&server, &["password", "li"], "another horse battery\n");
    assert!(!signs_in(&server, "li", "correct horse battery").await);
    assert!(signs_in(&server, "li", "another horse battery").await);
    done(&server, &["disable", "li"], "");
    assert!(!signs_in(&server, "li", "another horse battery").await);
    let listed = done(&server, &["list"], "");
    assert_eq!(
        (
            &listed[0]["account"],
            &listed[0]["role"],
            &listed[0]["disabled"]
        ),
        (&json!("li"), &json!("agent"), &json!(true))
    );
    done(&server, &["enable", "li"], "");
    assert!(signs_in(&server, "li", "another horse battery").await);
    let error = refused(&server, &["disable", "nobody"], "");
    assert!(error.contains("no such account"), "{error}");
    for action in [
        "add-account",
        "change-account",
        "set-password",
        "disable-account",
        "enable-account",
    ] {
        assert_eq!(server.audited(action).await, 1, "{action}");
    }
}

#[tokio::test]
async fn no_password_lies_in_the_clear() {
    let mut server = Server::start().await;
    let engine = &server.running.as_ref().unwrap().engine;
    let (name, role) = ("li".parse().unwrap(), doorstep_server::account::Role::Admin);
    let actor = doorstep_server::account::Actor::Operator;
    let password = "correct horse battery";
    let added = engine.add_account(actor, name, role, password.to_owned().into(), Run::Real);
    added.await.unwrap();
    assert!(signs_in(&server, "li", password).await);
    server.stop().await;
    let mut found = false;
    for file in server.data_files() {
        let bytes = std::fs::read(&file).unwrap();
        let has = |text: &str| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        assert!(!has(password), "{}", file.display());
        found |= has("$argon2id$");
    }
    assert!(found, "the account is in one of the files");
}
