use std::io::Read as _;

use flate2::read::GzDecoder;

use super::*;

const NAME: Shape = Shape::Fields(&[("name", Shape::Name), ("number", Shape::Number)]);

fn options(folder: &Path) -> Options {
    Options {
        out: folder.join("bundle.tar.gz"),
        log: Some(folder.join("no.log")),
        log_lines: 10,
        locations: false,
    }
}

fn unpacked(file: &Path) -> Vec<(String, String)> {
    let file = fs::File::open(file).expect("the archive");
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let entries = archive.entries().expect("entries");
    let read = |entry: std::io::Result<tar::Entry<'_, GzDecoder<fs::File>>>| {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("its text");
        (name, text)
    };
    entries.map(read).collect()
}

#[test]
fn a_bundle_has_what_was_added_and_says_what_it_has_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(folder.path());
    let mut bundle = Bundle::new("doorstep-test", "1.2.3", &options);
    let answer = json!({"name": "gw1", "phone": "13800138000"});
    bundle.answer("status.json", &NAME, Ok(answer));
    bundle.answer(
        "gone.json",
        &NAME,
        Err::<Value, _>(anyhow::anyhow!("13800138000")),
    );
    bundle.log(&options, &[]);
    let written = bundle.write(&options).expect("written");
    assert_eq!(written.files, ["manifest.json", "host.json", "status.json"]);
    let lacking = [
        "gone.json: the daemon does not answer",
        "log.json: the file cannot be read",
    ];
    assert_eq!(written.lacking, lacking);
    assert_eq!((written.withheld, written.left_out), (0, 1));

    let mode = fs::metadata(&options.out)
        .expect("it is there")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let files = unpacked(&options.out);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    let folder = "doorstep-test-support";
    let expected = written.files.iter().map(|name| format!("{folder}/{name}"));
    assert_eq!(names, expected.collect::<Vec<_>>());
    assert!(files.iter().all(|(_, text)| !text.contains("13800138000")));
    let manifest: Value = serde_json::from_str(&files[0].1).expect("JSON");
    assert_eq!(manifest["version"], "1.2.3");
    assert_eq!(
        manifest["lacking"]["gone.json"],
        "the daemon does not answer"
    );

    // What is there is not written over.
    let again = Bundle::new("doorstep-test", "1.2.3", &options).write(&options);
    let error = format!("{:#}", again.expect_err("it is there"));
    assert!(error.contains("--out"), "{error}");
    assert_eq!(unpacked(&options.out), files);
}

#[test]
fn nothing_is_written_if_a_secret_would_be_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(folder.path());
    let key = folder.path().join("keys/server.key");
    fs::create_dir_all(key.parent().expect("a folder")).expect("made");
    fs::write(&key, "hush-hush-hush\n").expect("written");
    let mut bundle = Bundle::new("doorstep-test", "1", &options);
    bundle.secret_files(&[folder.path().join("keys"), folder.path().join("none")]);
    bundle.add("status.json", &NAME, &json!({"name": "hush-hush-hush"}));
    let error = bundle.write(&options).expect_err("a secret");
    let error = format!("{error:#}");
    assert!(
        error.contains("status.json") && error.contains("name"),
        "{error}"
    );
    assert!(!error.contains("hush"), "{error}");
    assert!(!options.out.exists());
}

#[test]
fn a_configuration_that_is_broken_is_not_quoted() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(folder.path());
    let file = folder.path().join("x.toml");
    fs::write(&file, "phone = 13800138000 13800138000").expect("written");
    let mut bundle = Bundle::new("doorstep-test", "1", &options);
    assert_eq!(bundle.configuration(&file, &NAME), Value::Null);
    let written = bundle.write(&options).expect("written");
    assert_eq!(
        written.lacking,
        ["config.json: the configuration is not TOML"]
    );
    fs::remove_file(&options.out).expect("there");

    fs::write(&file, "name = \"gw1\"\nnumber = 7\ntoken = \"x\"").expect("written");
    let mut bundle = Bundle::new("doorstep-test", "1", &options);
    let whole = bundle.configuration(&file, &NAME);
    assert_eq!(whole["token"], "x");
    bundle.write(&options).expect("written");
    let files = unpacked(&options.out);
    let config = files.iter().find(|(name, _)| name.ends_with("config.json"));
    let config: Value = serde_json::from_str(&config.expect("it").1).expect("JSON");
    assert_eq!(config, json!({"name": "gw1", "number": 7}));
}
