//! The nodes that share the database: their leases, and whose the outbox is.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use deadpool_postgres::{Client, Pool, Transaction};

use super::value::{text, to_sql, unsigned};
use super::{Failure, PostgresStore};
use crate::lock::lock;
use crate::names::{ConversationId, DeviceName, UserName};
use crate::store::{OutboxId, Renewal, SharedOutbox, StoreError};

/// How long a lease holds, unless set otherwise
pub(super) const LEASE: Duration = Duration::from_secs(10);
pub(super) const SHORTEST_LEASE: Duration = Duration::from_secs(1);
/// How long the users of a node that has resigned count as there: they are on their way to another
const FAREWELL: Duration = Duration::from_secs(5);

/// Entries of nodes that are not there. The outbox may be long, the nodes in it are few: each is found by one look at
/// the index.
macro_rules! orphans {
    () => {
        "WITH RECURSIVE owner AS (
            (SELECT node FROM outbox ORDER BY node LIMIT 1)
            UNION ALL
            SELECT (SELECT o.node FROM outbox o WHERE o.node > owner.node ORDER BY o.node LIMIT 1)
            FROM owner WHERE owner.node IS NOT NULL
         ), gone AS (
            SELECT node FROM owner WHERE node IS NOT NULL AND NOT EXISTS
                (SELECT 1 FROM node n WHERE n.id = owner.node AND NOT n.resigned)
         ) "
    };
}

/// This node
pub(super) struct Node {
    name: String,
    lease: Duration,
    /// One connection, so that the lease waits for nobody
    pool: Pool,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// 0 before the first lease: then all that is nobody's is this store's
    id: i64,
    /// Until when it is safe to publish
    until: Option<Instant>,
    /// Not before then is anything adopted: others may be about to renew
    adopts_from: Option<Instant>,
}

impl Node {
    pub(super) fn new(name: String, lease: Duration, pool: Pool) -> Self {
        Self { name, lease, pool, state: Mutex::default() }
    }

    pub(super) fn id(&self) -> i64 {
        lock(&self.state).id
    }

    /// Under which number to store: an error where the lease has run out
    pub(super) fn to_store(&self) -> Result<i64, StoreError> {
        let state = *lock(&self.state);
        if state.id == 0 || state.until.is_some_and(|until| Instant::now() < until) {
            return Ok(state.id);
        }
        Err(StoreError::Unavailable("the lease of this node has run out".to_owned()))
    }

    async fn join(&self, transaction: &Transaction<'_>) -> Result<i64, Failure> {
        // Whoever had this name is no more; what it left is nobody's now.
        transaction.execute("DELETE FROM node WHERE name = $1", &[&self.name]).await?;
        let row = transaction
            .query_one(
                "INSERT INTO node (name, expires)
                 VALUES ($1, clock_timestamp() + make_interval(secs => $2)) RETURNING id",
                &[&self.name, &self.lease.as_secs_f64()],
            )
            .await?;
        Ok(row.try_get(0)?)
    }

    async fn renew(&self) -> Result<Renewal, Failure> {
        let mut client = self.pool.get().await?;
        match tokio::time::timeout(self.lease / 3, self.renew_with(&mut client)).await {
            Ok(renewal) => renewal,
            Err(_) => {
                // It may be cut off without knowing: the next attempt gets another one.
                drop(Client::take(client));
                let text = "the database did not answer in time".to_owned();
                Err(StoreError::Unavailable(text).into())
            }
        }
    }

    async fn renew_with(&self, client: &mut Client) -> Result<Renewal, Failure> {
        let before = *lock(&self.state);
        let asked = Instant::now();
        let renew = client
            .prepare_cached(
                "UPDATE node SET expires = clock_timestamp() + make_interval(secs => $2)
                 WHERE id = $1 AND NOT resigned",
            )
            .await?;
        let id = if client.execute(&renew, &[&before.id, &self.lease.as_secs_f64()]).await? == 1 {
            before.id
        } else {
            let transaction = client.transaction().await?;
            let id = self.join(&transaction).await?;
            transaction.commit().await?;
            id
        };
        let late = before.until.is_some_and(|until| until < asked);
        *lock(&self.state) = State {
            id,
            until: Some(asked + self.lease * 2 / 3),
            adopts_from: if late { Some(asked + self.lease / 2) } else { before.adopts_from },
        };
        let look = client
            .prepare_cached(concat!(
                orphans!(),
                "SELECT EXISTS (SELECT 1 FROM gone)
                    OR EXISTS (SELECT 1 FROM node WHERE expires <= clock_timestamp())"
            ))
            .await?;
        let orphans = client.query_one(&look, &[]).await?.try_get(0)?;
        Ok(Renewal::new(self.lease / 4, orphans))
    }
}

async fn adopt(transaction: &Transaction<'_>, me: i64) -> Result<u64, Failure> {
    transaction
        .execute("DELETE FROM node WHERE expires <= clock_timestamp() AND id <> $1", &[&me])
        .await?;
    let take = transaction
        .prepare_cached(concat!(
            orphans!(),
            "UPDATE outbox SET node = $1 WHERE node IN (SELECT node FROM gone)
             AND EXISTS (SELECT 1 FROM node n WHERE n.id = $1 AND NOT n.resigned)"
        ))
        .await?;
    let adopted = transaction.execute(&take, &[&me]).await?;
    for table in ["barrier", "seeding"] {
        let tidy = format!(
            "DELETE FROM {table} WHERE NOT EXISTS
             (SELECT 1 FROM node n WHERE n.id = {table}.node AND NOT n.resigned)"
        );
        transaction.execute(&tidy, &[]).await?;
    }
    Ok(adopted)
}

async fn hold(
    transaction: &Transaction<'_>,
    (me, user, device, conversations): &(i64, &UserName, &DeviceName, Vec<&str>),
) -> Result<Option<Vec<u64>>, Failure> {
    let claim = transaction
        .prepare_cached(
            "INSERT INTO seeding (person, device, node) VALUES ($1, $2, $3)
             ON CONFLICT (person, device) DO UPDATE SET node = seeding.node
             WHERE seeding.node = excluded.node",
        )
        .await?;
    if transaction.execute(&claim, &[&user.as_str(), &device.as_str(), me]).await? == 0 {
        return Ok(None);
    }
    // In the order in which whoever appends takes the locks.
    let lock = transaction
        .prepare_cached(
            "SELECT id, name, last_seq FROM conversation WHERE name = ANY($1) ORDER BY name FOR UPDATE",
        )
        .await?;
    let (mut ids, mut seqs, mut last) = (Vec::new(), Vec::new(), vec![0; conversations.len()]);
    for row in transaction.query(&lock, &[conversations]).await? {
        ids.push(row.try_get::<_, i64>(0)?);
        seqs.push(row.try_get::<_, i64>(2)?);
        let name: &str = row.try_get(1)?;
        for (place, _) in conversations.iter().enumerate().filter(|(_, known)| **known == name) {
            if let Some(last) = last.get_mut(place) {
                *last = unsigned(&row, 2)?;
            }
        }
    }
    let bar = transaction
        .prepare_cached(
            "INSERT INTO barrier (conversation, node, seq)
             SELECT conversation, $1, seq FROM unnest($2::bigint[], $3::bigint[]) AS now (conversation, seq)
             ON CONFLICT (conversation, node) DO UPDATE SET seq = excluded.seq",
        )
        .await?;
    transaction.execute(&bar, &[me, &ids, &seqs]).await?;
    Ok(Some(last))
}

#[async_trait]
impl SharedOutbox for PostgresStore {
    async fn renew(&self) -> Result<Renewal, StoreError> {
        Ok(self.node.renew().await?)
    }

    fn lease(&self) -> Option<u64> {
        let state = *lock(&self.node.state);
        let holds = state.until.is_some_and(|until| Instant::now() < until);
        holds.then_some(state.id.cast_unsigned())
    }

    async fn adopt(&self) -> Result<u64, StoreError> {
        let state = *lock(&self.node.state);
        if state.id == 0 || state.adopts_from.is_some_and(|from| Instant::now() < from) {
            return Ok(0);
        }
        self.transact(&state.id, |transaction, me| Box::pin(adopt(transaction, *me))).await
    }

    async fn blocked(&self) -> Result<Vec<ConversationId>, StoreError> {
        let blocked = async {
            let client = self.client().await?;
            let find = client
                .prepare_cached(
                    "SELECT c.name FROM (
                        SELECT conversation, max(seq) AS seq FROM outbox WHERE node = $1 GROUP BY 1
                     ) mine JOIN conversation c ON c.id = mine.conversation
                     WHERE EXISTS (SELECT 1 FROM outbox o WHERE o.conversation = mine.conversation
                            AND o.seq < mine.seq AND o.node <> $1)
                        OR EXISTS (SELECT 1 FROM barrier b WHERE b.conversation = mine.conversation
                            AND b.seq < mine.seq AND b.node <> $1)",
                )
                .await?;
            let rows = client.query(&find, &[&self.node.id()]).await?;
            rows.iter().map(|row| text(row, 0)).collect::<Result<_, Failure>>()
        };
        Ok(blocked.await?)
    }

    async fn still_waiting(&self, ids: &[OutboxId]) -> Result<Vec<OutboxId>, StoreError> {
        let waiting = async {
            let ids: Vec<i64> = ids.iter().map(|id| to_sql(id.get())).collect();
            let client = self.client().await?;
            let find = client.prepare_cached("SELECT id FROM outbox WHERE id = ANY($1)").await?;
            let rows = client.query(&find, &[&ids]).await?;
            let id = |row| Ok(OutboxId::new(unsigned(row, 0)?));
            rows.iter().map(id).collect::<Result<_, Failure>>()
        };
        Ok(waiting.await?)
    }

    async fn hold(
        &self,
        user: &UserName,
        device: &DeviceName,
        conversations: &[ConversationId],
    ) -> Result<Option<Vec<u64>>, StoreError> {
        let names = conversations.iter().map(ConversationId::as_str).collect();
        let about = (self.node.to_store()?, user, device, names);
        self.transact(&about, |transaction, about| Box::pin(hold(transaction, about))).await
    }

    async fn is_quiet(&self) -> Result<bool, StoreError> {
        let quiet = async {
            let client = self.client().await?;
            let find = client
                .prepare_cached(
                    "SELECT NOT EXISTS (SELECT 1 FROM barrier b JOIN outbox o
                        ON o.conversation = b.conversation AND o.seq <= b.seq WHERE b.node = $1)",
                )
                .await?;
            Ok::<_, Failure>(client.query_one(&find, &[&self.node.id()]).await?.try_get(0)?)
        };
        Ok(quiet.await?)
    }

    async fn let_go(&self) -> Result<(), StoreError> {
        self.transact(&self.node.id(), |transaction, me| {
            Box::pin(async move {
                transaction.execute("DELETE FROM barrier WHERE node = $1", &[me]).await?;
                transaction.execute("DELETE FROM seeding WHERE node = $1", &[me]).await?;
                Ok(())
            })
        })
        .await
    }

    async fn resign(&self) -> Result<(), StoreError> {
        let id = {
            let mut state = lock(&self.node.state);
            state.until = None;
            state.id
        };
        let about = (id, FAREWELL.as_secs_f64());
        self.transact(&about, |transaction, (id, farewell)| {
            Box::pin(async move {
                let resign = "UPDATE node SET resigned = true,
                    expires = clock_timestamp() + make_interval(secs => $2) WHERE id = $1";
                transaction.execute(resign, &[id, farewell]).await?;
                Ok(())
            })
        })
        .await
    }
}
