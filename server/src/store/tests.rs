use sqlx::{ConnectOptions as _, Connection as _};
use uuid::Uuid;

use super::*;
use crate::session::service::Grant;

/// A database as the first version left it, with one of each.
#[tokio::test]
async fn a_database_without_services_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.sqlite");
    let (subscriber, session) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let mut old = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .connect()
        .await
        .unwrap();
    let mut first = migrator();
    first.migrations.to_mut().truncate(1);
    first.run(&mut old).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "INSERT INTO subscribers (id, generation, secret_hash, created_ms) \
         VALUES ('{subscriber}', 3, x'00', 1);\
         INSERT INTO sessions (id, subscriber, generation, state, location, gateway, session_key, \
         detail, since_ms, created_ms, up_packets, up_bytes, down_packets, down_bytes) \
         VALUES ('{session}', '{subscriber}', 3, 'established', \
         '110103-xinjingjiayuan-001-002-004', 'gw1', x'00', '', 1, 1, 5, 6, 7, 8);\
         INSERT INTO receipts VALUES ('gw1', 1, '{session}', 2, 1, 2, 3, 4, 5, 6);"
    )))
    .execute(&mut old)
    .await
    .unwrap();
    old.close().await.unwrap();

    for _ in 0..2 {
        let store = Store::open(&path).await.unwrap();
        let row = store.session(session).await.unwrap().unwrap();
        assert_eq!(row.session.service, Grant::default());
        assert!(row.session.service.is_acknowledged(), "nothing to be told");
        let counters = row.counters.unwrap();
        assert_eq!(
            (counters.downstream_bytes, counters.downstream_policed),
            (8, 0)
        );
        let receipt = &store.receipts(session).await.unwrap()[0];
        assert_eq!(receipt.counters.downstream_bytes, 4);
        assert_eq!(receipt.counters.upstream_policed, 0);
        assert_eq!((receipt.at_ms, receipt.recorded_ms), (5, 6));
        let plan = store.subscriber(subscriber).await.unwrap().unwrap().plan;
        assert_eq!(plan, None);
        assert_eq!(store.unanswered_at_gateway("gw1").await.unwrap().len(), 0);
        store.close().await;
    }
}
