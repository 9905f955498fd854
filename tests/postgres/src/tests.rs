use super::*;

#[test]
fn what_is_committed_outlives_a_crash_and_nothing_is_left() {
    let mut postgres = Postgres::start(Settings::default()).unwrap();
    let folder = postgres.folder().to_owned();
    let url = postgres.create_database("one").unwrap();
    assert!(url.contains("/one?host=/"), "{url}");
    postgres
        .sql("one", "CREATE TABLE t (n INT); INSERT INTO t VALUES (7)")
        .unwrap();
    postgres.restart().unwrap();
    assert_eq!(postgres.sql("one", "SELECT n FROM t").unwrap(), "7\n");
    assert_eq!(postgres.sql("one", "SHOW fsync").unwrap(), "on\n");
    let error = postgres.sql("one", "SELECT nothing").unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
    drop(postgres);
    assert!(!folder.exists());
}

#[test]
fn a_setting_that_it_does_not_know_is_told() {
    let settings = Settings {
        more: vec!["no_such_setting=1".to_owned()],
        fsync: false,
    };
    let error = Postgres::start(settings).unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[test]
fn databases_of_the_shared_one_are_made_once() {
    assert_eq!(shared("both"), shared("both"));
    assert_ne!(shared("both"), shared("other"));
}
