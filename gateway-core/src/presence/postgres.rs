//! Who is there on any of the nodes that share a PostgreSQL database.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};

use super::{Presence, PresenceStore};
use crate::names::UserName;
use crate::store::postgres::Failure;
use crate::store::postgres::value::{to_sql, unreadable};
use crate::store::{PostgresStore, SharedOutbox, StoreError};

/// Who tells; who is here, and whether away; who is gone, and since when
type Update = (i64, Vec<String>, Vec<bool>, Vec<String>, Vec<i64>);

fn names(users: &[UserName]) -> Vec<String> {
    users.iter().map(|user| user.as_str().to_owned()).collect()
}

/// Those of `people` whom a living node has told of, and whether all nodes say that they are away
async fn online(
    client: &impl GenericClient,
    people: &[String],
) -> Result<HashMap<String, bool>, Failure> {
    let find = client
        .prepare_cached(
            "SELECT o.person, bool_and(o.away) FROM online o
             JOIN node n ON n.id = o.node AND n.expires > clock_timestamp()
             WHERE o.person = ANY($1) GROUP BY o.person",
        )
        .await?;
    let rows = client.query(&find, &[&people]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

async fn update(
    transaction: &Transaction<'_>,
    (me, here, away, gone, times): &Update,
) -> Result<Vec<UserName>, Failure> {
    let all: Vec<String> = here.iter().chain(gone).cloned().collect();
    // Nodes that tell of one person take turns: so one of them sees the difference.
    let lock = transaction
        .prepare_cached(
            "SELECT pg_advisory_xact_lock(lock) FROM (
                SELECT DISTINCT hashtextextended(person, 1) AS lock
                FROM unnest($1::text[]) AS people (person) ORDER BY lock
             ) AS locks",
        )
        .await?;
    transaction.query(&lock, &[&all]).await?;
    let before = online(transaction, &all).await?;
    let enter = transaction
        .prepare_cached(
            "INSERT INTO online (person, node, away)
             SELECT person, $2, away FROM unnest($1::text[], $3::boolean[]) AS people (person, away)
             ON CONFLICT (person, node) DO UPDATE SET away = excluded.away",
        )
        .await?;
    transaction.execute(&enter, &[here, me, away]).await?;
    let leave = transaction
        .prepare_cached("DELETE FROM online WHERE person = ANY($1) AND node = $2")
        .await?;
    transaction.execute(&leave, &[gone, me]).await?;
    saw(transaction, gone, times).await?;
    let after = online(transaction, &all).await?;
    let changed = all.into_iter().filter(|name| before.get(name) != after.get(name));
    changed.map(|name| UserName::new(&name).map_err(unreadable)).collect()
}

async fn saw(
    transaction: &Transaction<'_>,
    people: &[String],
    times: &[i64],
) -> Result<(), Failure> {
    let upsert = transaction
        .prepare_cached(
            "INSERT INTO last_seen (person, time)
             SELECT * FROM unnest($1::text[], $2::bigint[]) AS seen (person, time) ORDER BY person
             ON CONFLICT (person) DO UPDATE SET time = greatest(last_seen.time, excluded.time)",
        )
        .await?;
    transaction.execute(&upsert, &[&people, &times]).await?;
    Ok(())
}

async fn forget_the_dead(
    transaction: &Transaction<'_>,
    now: &u64,
) -> Result<Vec<UserName>, Failure> {
    // Many people, few nodes: each node is found by one look at the index.
    let forget = transaction
        .prepare_cached(
            "WITH RECURSIVE teller AS (
                (SELECT node FROM online ORDER BY node LIMIT 1)
                UNION ALL
                SELECT (SELECT o.node FROM online o WHERE o.node > teller.node ORDER BY o.node LIMIT 1)
                FROM teller WHERE teller.node IS NOT NULL
             ), gone AS (
                SELECT node FROM teller WHERE node IS NOT NULL AND NOT EXISTS
                    (SELECT 1 FROM node n WHERE n.id = teller.node AND n.expires > clock_timestamp())
             ) DELETE FROM online WHERE node IN (SELECT node FROM gone) RETURNING person",
        )
        .await?;
    let rows = transaction.query(&forget, &[]).await?;
    let people: HashSet<String> =
        rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    if people.is_empty() {
        return Ok(Vec::new());
    }
    let people: Vec<String> = people.into_iter().collect();
    saw(transaction, &people, &vec![to_sql(*now); people.len()]).await?;
    people.iter().map(|name| UserName::new(name).map_err(unreadable)).collect()
}

#[async_trait]
impl PresenceStore for PostgresStore {
    async fn update(
        &self,
        here: &[UserName],
        away: &[UserName],
        gone: &[(UserName, u64)],
    ) -> Result<Vec<UserName>, StoreError> {
        let Some(me) = self.lease() else {
            return Err(StoreError::Unavailable("this node holds no lease".to_owned()));
        };
        let (gone, times): (Vec<_>, Vec<_>) =
            gone.iter().map(|(user, time)| (user.as_str().to_owned(), to_sql(*time))).unzip();
        let standing = [vec![false; here.len()], vec![true; away.len()]].concat();
        let here = [names(here), names(away)].concat();
        let about: Update = (to_sql(me), here, standing, gone, times);
        self.transact(&about, |transaction, about| Box::pin(update(transaction, about))).await
    }

    async fn presence(&self, users: &[UserName]) -> Result<Vec<Presence>, StoreError> {
        let read = async {
            let client = self.client().await?;
            let find = client
                .prepare_cached(
                    "SELECT s.time, (SELECT bool_and(o.away) FROM online o
                        JOIN node n ON n.id = o.node AND n.expires > clock_timestamp()
                        WHERE o.person = people.person)
                     FROM unnest($1::text[]) WITH ORDINALITY AS people (person, place)
                     LEFT JOIN last_seen s ON s.person = people.person ORDER BY place",
                )
                .await?;
            let rows = client.query(&find, &[&names(users)]).await?;
            rows.iter()
                .map(|row| {
                    let last_seen: Option<i64> = row.try_get(0)?;
                    Ok(match row.try_get(1)? {
                        Some(false) => Presence::Online,
                        Some(true) => Presence::Away,
                        None => Presence::offline(last_seen.map(i64::cast_unsigned)),
                    })
                })
                .collect::<Result<_, Failure>>()
        };
        Ok(read.await?)
    }

    async fn forget_the_dead(&self) -> Result<Vec<UserName>, StoreError> {
        self.transact(&self.now(), |transaction, now| Box::pin(forget_the_dead(transaction, now)))
            .await
    }

    fn node(&self) -> Option<u64> {
        Some(self.lease().unwrap_or(0))
    }
}
