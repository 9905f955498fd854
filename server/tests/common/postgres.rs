//! Databases of a PostgreSQL that runs for as long as this test program.

pub fn database(name: &str) -> String {
    let base = std::env::var("DOORSTEP_TEST_POSTGRES").unwrap();
    let made = std::process::Command::new("psql")
        .args(["-h", &base, "-U", "doorstep", "postgres", "-qc"])
        .arg(format!("CREATE DATABASE \"{name}\""))
        .stderr(std::process::Stdio::null())
        .status();
    // It is there already when a server is started again.
    drop(made);
    format!("postgres://doorstep@localhost/{name}?host={base}")
}
