use super::*;

/// What every registry does
async fn behaves(registry: &dyn Registry) {
    let kind = RecordKind::Key;
    assert_eq!(registry.get(kind, "a").await.unwrap(), None);
    for id in ["c", "a", "B", "é"] {
        assert!(registry.insert(kind, &Record::new(id, "{}")).await.unwrap(), "{id}");
    }
    assert!(!registry.insert(kind, &Record::new("a", "other")).await.unwrap());
    assert_eq!(registry.get(kind, "a").await.unwrap(), Some(Record::new("a", "{}")));
    assert_eq!(registry.get(RecordKind::Webhook, "a").await.unwrap(), None, "another kind");

    let ids = async |after: &str, limit| {
        let records = registry.list(kind, after, limit).await.unwrap();
        records.into_iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!(ids("", 9).await, ["B", "a", "c", "é"]);
    assert_eq!(ids("", 2).await, ["B", "a"]);
    assert_eq!(ids("a", 9).await, ["c", "é"]);
    assert!(registry.list(RecordKind::Webhook, "", 9).await.unwrap().is_empty());

    assert!(registry.replace(kind, &Record::new("c", "[1]")).await.unwrap());
    assert_eq!(registry.get(kind, "c").await.unwrap(), Some(Record::new("c", "[1]")));
    assert!(registry.remove(kind, "c").await.unwrap());
    assert!(!registry.remove(kind, "c").await.unwrap());
    // What was removed does not come back by a change.
    assert!(!registry.replace(kind, &Record::new("c", "[2]")).await.unwrap());
    assert_eq!(registry.get(kind, "c").await.unwrap(), None);
}

#[tokio::test]
async fn memory_keeps_records() {
    behaves(&MemoryRegistry::new()).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn sqlite_keeps_records_also_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = crate::store::SqliteStore::open(&path).unwrap();
    behaves(&store).await;
    drop(store);
    let store = crate::store::SqliteStore::open(&path).unwrap();
    assert!(store.get(RecordKind::Key, "a").await.unwrap().is_some());
}

#[cfg(feature = "postgres")]
#[tokio::test]
#[ignore = "needs PostgreSQL"]
async fn postgres_keeps_records() {
    let url = crate::store::postgres::tests::fresh_database().await;
    behaves(&crate::store::PostgresStore::open(url).await.unwrap()).await;
}
